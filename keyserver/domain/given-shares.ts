/** Shares that wait in memory for the others of their set: each is checked when it comes, so nobody can spoil the rest. */
import { type KeyShare, combineKeyShares, parseKeyShare } from '#src/crypto/key-share.ts';
import type { Clock } from '#src/base/clock.ts';
import type { RootKeyOpening, RootKeySlot } from '../custody/root-key-slot.ts';
import { slotOfShare } from '../custody/shared-slot.ts';
import { GIVEN_SHARE_AGE_MS } from '../limits.ts';

export class GivenShares {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  /** By set and number. */
  #shares = new Map<string, KeyShare>();
  #lastGivenAtMs = 0;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /**
   * Takes a share; giving it twice is harmless.
   * @returns what opens the root key, once there are enough
   * @throws LatchkeyError KEY_INVALID
   */
  async give(text: string, slots: readonly RootKeySlot[]): Promise<RootKeyOpening | null> {
    const share = parseKeyShare(text);
    const { parameters } = slotOfShare(slots, share);
    this.#forgetOld();
    this.#lastGivenAtMs = this.#clock.monotonicMs();
    this.#shares.set(`${share.setId}/${share.number}`, share);
    const given = this.#ofSet(share.setId);
    if (given.length < parameters.threshold) return null;
    return { kind: 'shamir', setId: share.setId, slotKey: await combineKeyShares(given) };
  }

  /** How many of a set wait. */
  count(setId: string): number {
    this.#forgetOld();
    return this.#ofSet(setId).length;
  }

  forget(): void {
    for (const { share } of this.#shares.values()) share.fill(0);
    this.#shares = new Map();
  }

  #ofSet(setId: string): KeyShare[] {
    return [...this.#shares.values()].filter((share) => share.setId === setId);
  }

  #forgetOld(): void {
    if (this.#clock.monotonicMs() - this.#lastGivenAtMs > GIVEN_SHARE_AGE_MS) this.forget();
  }
}

/**
 * What all shares of one request open together.
 * @throws LatchkeyError KEY_INVALID
 */
export async function openingOfShares(
  texts: readonly string[],
  slots: readonly RootKeySlot[],
): Promise<RootKeyOpening> {
  const shares = texts.map(parseKeyShare);
  for (const share of shares) slotOfShare(slots, share);
  const slotKey = await combineKeyShares(shares);
  return { kind: 'shamir', setId: shares[0]?.setId ?? '', slotKey };
}

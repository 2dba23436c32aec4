/**
 * Challenges that nodes have to sign: random, good once and for a short time. Any key server of the organization takes
 * what another has issued: a challenge says itself when that was, and only the used ones are kept.
 */
import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Clock } from '#src/base/clock.ts';
import { CHALLENGE_LIFETIME_MS, MAX_SERVER_CLOCK_SKEW_MS } from '../limits.ts';
import { CHALLENGE_NONCE_BYTES } from '#src/licensing/node-proof.ts';
import type { Writer } from '../db/store.ts';

const TIME_BYTES = 6;
const RANDOM_BYTES = 10;
const CONTENT_BYTES = TIME_BYTES + RANDOM_BYTES;
const MAC_BYTES = CHALLENGE_NONCE_BYTES - CONTENT_BYTES;

export class Challenges {
  readonly #clock: Pick<Clock, 'nowMs'>;
  readonly #lookupKey: () => Uint8Array;

  /** @param lookupKey gives that of the organization, which all its key servers have while they are unsealed */
  constructor(lookupKey: () => Uint8Array, clock: Pick<Clock, 'nowMs'>) {
    this.#clock = clock;
    this.#lookupKey = lookupKey;
  }

  issue(): Buffer {
    const content = Buffer.concat([Buffer.alloc(TIME_BYTES), randomBytes(RANDOM_BYTES)]);
    content.writeUIntBE(this.#clock.nowMs(), 0, TIME_BYTES);
    return Buffer.concat([content, this.#mac(content)]);
  }

  /** True for one of ours that is not too old; whether it was used, `use` knows. */
  isOpen(nonce: Uint8Array): boolean {
    if (nonce.length !== CHALLENGE_NONCE_BYTES) return false;
    const content = Buffer.from(nonce.subarray(0, CONTENT_BYTES));
    if (!timingSafeEqual(this.#mac(content), nonce.subarray(CONTENT_BYTES))) return false;
    const ageMs = this.#clock.nowMs() - issuedAtMs(nonce);
    return ageMs >= -MAX_SERVER_CLOCK_SKEW_MS && ageMs < CHALLENGE_LIFETIME_MS + MAX_SERVER_CLOCK_SKEW_MS;
  }

  /** Uses up a challenge that is open, in the transaction of what it is for; false = it was used before. */
  async use(writer: Writer, nonce: Uint8Array): Promise<boolean> {
    const nowMs = this.#clock.nowMs();
    await writer.deleteFrom('used_challenge').where('expires_at_ms', '<=', nowMs).execute();
    // As long as any key server may hold it for open, whichever of their clocks is ahead.
    const expiresAtMs = issuedAtMs(nonce) + CHALLENGE_LIFETIME_MS + 3 * MAX_SERVER_CLOCK_SKEW_MS;
    const { numInsertedOrUpdatedRows } = await writer
      .insertInto('used_challenge')
      .values({ nonce: Buffer.from(nonce).toString('hex'), expires_at_ms: expiresAtMs })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirstOrThrow();
    return Number(numInsertedOrUpdatedRows) === 1;
  }

  #mac(content: Uint8Array): Buffer {
    const key = Buffer.from(hkdfSync('sha256', this.#lookupKey(), '', 'latchkey/challenge', 32));
    return createHmac('sha256', key).update(content).digest().subarray(0, MAC_BYTES);
  }
}

function issuedAtMs(nonce: Uint8Array): number {
  return Buffer.from(nonce.subarray(0, TIME_BYTES)).readUIntBE(0, TIME_BYTES);
}

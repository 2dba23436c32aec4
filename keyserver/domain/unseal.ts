/** Unsealing by whoever has what opens the keys, and sealing by whoever may. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { SealInput, SealStatus, UnsealInput } from '#src/wire/admin/seal.ts';
import type { Actor } from '../audit/append-event.ts';
import type { RootKeyOpening } from '../custody/root-key-slot.ts';
import { runChange } from './change.ts';
import { GivenShares } from './given-shares.ts';
import type { KeyServer } from './key-server.ts';
import { describeSlot, rootKeySlots } from './root-key-slots.ts';

export class Unsealing {
  readonly #server: KeyServer;
  readonly #given: GivenShares;

  constructor(server: KeyServer) {
    this.#server = server;
    this.#given = new GivenShares(server.clock);
  }

  async status(): Promise<SealStatus> {
    const { organizationId, seal, store } = this.#server;
    const slots = await rootKeySlots(store.read, organizationId);
    return {
      organizationId,
      isSealed: seal.isSealed,
      slots: slots.map((slot) => describeSlot(slot, (setId) => this.#given.count(setId))),
    };
  }

  /**
   * Takes the root key or a share, and opens the keys as soon as that is enough. A key server that is unsealed stays so,
   * whatever comes.
   * @throws LatchkeyError KEY_INVALID for what opens nothing here, and what else keeps the keys from being opened
   */
  async unseal(input: UnsealInput): Promise<SealStatus> {
    if (this.#server.seal.isSealed) {
      const opening = await this.#openingOf(input);
      if (opening !== null) await this.#open(opening);
    }
    return this.status();
  }

  async #openingOf(input: UnsealInput): Promise<RootKeyOpening | null> {
    if ('rootKey' in input) return { kind: 'file', rootKey: Buffer.from(input.rootKey, 'hex') };
    const { organizationId, store } = this.#server;
    return this.#given.give(input.share, await rootKeySlots(store.read, organizationId));
  }

  async #open(opening: RootKeyOpening): Promise<void> {
    const server = this.#server;
    const wasSealed = await server.seal.unseal(opening);
    this.#given.forget();
    if (!wasSealed) return;
    await runChange(
      server,
      'system',
      (change) =>
        change.audit({
          action: 'server.unseal',
          target: server.organizationId,
          detail: { kind: opening.kind },
        }),
      'URGENT',
    );
  }
}

/**
 * Forgets the keys of this process. On a key server that is sealed, nothing.
 * @throws LatchkeyError STATE_PRECONDITION for the id of another organization
 */
export async function seal(server: KeyServer, actor: Actor, input: SealInput): Promise<void> {
  if (input.organizationId !== server.organizationId) {
    throw new LatchkeyError('STATE_PRECONDITION', 'this key server belongs to another organization', {
      hint: 'see `latchkey server status` for its id',
    });
  }
  const wasSealed = server.seal.isSealed;
  await server.seal.seal();
  if (wasSealed) return;
  await runChange(
    server,
    actor,
    (change) =>
      change.audit({
        action: 'server.seal',
        target: server.organizationId,
        // It stands nowhere else, and is about the server: so in plain.
        detail: { sealReason: input.reason },
      }),
    'URGENT',
  );
}

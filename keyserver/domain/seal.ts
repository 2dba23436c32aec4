/**
 * Whether this process can open keys. While it is sealed, nothing that the root key opens is in its memory, and everything
 * that would need it answers DENIED_SEALED.
 */
import { type KeyObject, randomBytes } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import type { AuditPublisher } from '../audit/audit-publisher.ts';
import type { OrganizationKeys } from '../custody/organization-keys.ts';
import type { RootKeyOpening } from '../custody/root-key-slot.ts';
import { WRAPPING_KEY_BYTES } from '../custody/wrapped-key.ts';

/** What there is only while the key server is unsealed. */
export interface Unsealed {
  readonly rootKey: KeyObject;
  readonly keys: OrganizationKeys;
  readonly auditPublisher: AuditPublisher;
}

export interface SealListener {
  /** May fail; then the key server stays sealed. */
  onUnsealed(): Promise<void>;
  onSealed(): void;
}

export class Seal {
  readonly #open: (opening: RootKeyOpening) => Promise<Unsealed>;
  readonly #cursorKey = randomBytes(WRAPPING_KEY_BYTES);
  #unsealed: Unsealed | null = null;
  #listener: SealListener | null = null;
  /** One change after the other. */
  #changing: Promise<unknown> = Promise.resolve();

  /** @param open opens what the root key opens */
  constructor(open: (opening: RootKeyOpening) => Promise<Unsealed>) {
    this.#open = open;
  }

  get isSealed(): boolean {
    return this.#unsealed === null;
  }

  /** @throws LatchkeyError DENIED_SEALED */
  get unsealed(): Unsealed {
    if (this.#unsealed === null) throw sealed();
    return this.#unsealed;
  }

  /** Lists are read while the key server is sealed too; their cursors then end with this process. */
  get cursorKey(): Uint8Array {
    return this.#unsealed?.keys.lookupKey ?? this.#cursorKey;
  }

  /** Is told of every change from now on; one listener. */
  listen(listener: SealListener): void {
    this.#listener = listener;
  }

  /**
   * Opens the keys; on a key server that is unsealed, nothing.
   * @returns whether it was sealed
   * @throws LatchkeyError KEY_INVALID for another root key, and what else keeps the keys from being opened
   */
  unseal(opening: RootKeyOpening): Promise<boolean> {
    return this.#change(async () => {
      if (this.#unsealed !== null) return false;
      this.#unsealed = await this.#open(opening);
      try {
        await this.#listener?.onUnsealed();
      } catch (error) {
        await this.#forget();
        throw error;
      }
      return true;
    });
  }

  /** Forgets the keys, after a last checkpoint of the audit log. Repeating it is harmless. */
  seal(): Promise<void> {
    return this.#change(async () => {
      if (this.#unsealed === null) return;
      const forgotten = this.#forget();
      this.#listener?.onSealed();
      await forgotten;
    });
  }

  /** The keys are gone before anything is waited for. */
  async #forget(): Promise<void> {
    const unsealed = this.#unsealed;
    this.#unsealed = null;
    await unsealed?.auditPublisher.stop();
  }

  #change<Result>(work: () => Promise<Result>): Promise<Result> {
    const next = this.#changing.then(work);
    this.#changing = next.catch(() => undefined);
    return next;
  }
}

/** The answer of a key server that is sealed. */
export function sealed(): LatchkeyError {
  return new LatchkeyError('DENIED_SEALED', 'the key server is sealed and opens no keys', {
    hint: 'its operators unseal it with `latchkey server unseal`',
  });
}

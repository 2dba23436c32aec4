/**
 * Tells the key server up to which change this node does as it says, until it has answered. Only the newest is told: it
 * stands for all before it.
 */
import { type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { KeyServer } from './key-server.ts';

const RETRY_AFTER_MS = 5000;

export class RevocationAcknowledger {
  readonly #onRefused: (error: LatchkeyError) => void;
  #keyServer: Pick<KeyServer, 'acknowledgeRevocations'> | undefined;
  #wantedRevision = 0;
  #answeredRevision = 0;
  #isSending = false;
  #timer: NodeJS.Timeout | undefined;

  /** @param onRefused the key server has answered with something else than yes; it is not told the same again */
  constructor(onRefused: (error: LatchkeyError) => void) {
    this.#onRefused = onRefused;
  }

  start(keyServer: Pick<KeyServer, 'acknowledgeRevocations'>): void {
    this.#keyServer = keyServer;
    void this.#send();
  }

  stop(): void {
    this.#keyServer = undefined;
    clearTimeout(this.#timer);
  }

  /** Keys are wiped and starts refused as every change up to the revision says. */
  applied(revision: number): void {
    this.#wantedRevision = Math.max(this.#wantedRevision, revision);
    void this.#send();
  }

  async #send(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    clearTimeout(this.#timer);
    try {
      while (this.#keyServer !== undefined && this.#answeredRevision < this.#wantedRevision) {
        await this.#sendOne(this.#keyServer, this.#wantedRevision);
      }
    } catch {
      // Away: the newest by then, in a while.
      if (this.#keyServer !== undefined) this.#timer = setTimeout(() => void this.#send(), RETRY_AFTER_MS);
    } finally {
      this.#isSending = false;
    }
  }

  async #sendOne(keyServer: Pick<KeyServer, 'acknowledgeRevocations'>, revision: number): Promise<void> {
    try {
      await keyServer.acknowledgeRevocations(revision);
    } catch (error) {
      const known = toLatchkeyError(error);
      if (known.code.startsWith('NET_') || known.code === 'INTERRUPTED') throw known;
      this.#onRefused(known);
    }
    this.#answeredRevision = Math.max(this.#answeredRevision, revision);
  }
}

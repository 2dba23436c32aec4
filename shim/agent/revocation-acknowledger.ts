/**
 * Tells the key server up to which change this node does as it says, until it has answered. Only the newest is told: it
 * stands for all before it.
 */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { KeyServer } from './key-server.ts';
import { PersistentSender, answeredRefusal } from './persistent-sender.ts';

export class RevocationAcknowledger {
  readonly #onRefused: (error: LatchkeyError) => void;
  readonly #sender = new PersistentSender(() => this.#next());
  #keyServer: Pick<KeyServer, 'acknowledgeRevocations'> | undefined;
  #wantedRevision = 0;
  #answeredRevision = 0;

  /** @param onRefused the key server has answered with something else than yes; it is not told the same again */
  constructor(onRefused: (error: LatchkeyError) => void) {
    this.#onRefused = onRefused;
  }

  start(keyServer: Pick<KeyServer, 'acknowledgeRevocations'>): void {
    this.#keyServer = keyServer;
    this.#sender.start();
  }

  stop(): void {
    this.#sender.stop();
  }

  /** Keys are wiped and starts refused as every change up to the revision says. */
  applied(revision: number): void {
    this.#wantedRevision = Math.max(this.#wantedRevision, revision);
    this.#sender.trigger();
  }

  #next(): (() => Promise<void>) | undefined {
    const [keyServer, revision] = [this.#keyServer, this.#wantedRevision];
    if (keyServer === undefined || this.#answeredRevision >= revision) return undefined;
    return async () => {
      await keyServer.acknowledgeRevocations(revision).catch((error: unknown) => {
        this.#onRefused(answeredRefusal(error));
      });
      this.#answeredRevision = Math.max(this.#answeredRevision, revision);
    };
  }
}

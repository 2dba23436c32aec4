/** Tells the key server something until it has answered: one thing at a time, and again in a while when it has not. */
import { ERROR_TABLE, type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { isAway } from './lease-denial.ts';

const RETRY_AFTER_MS = 5000;

export class PersistentSender {
  readonly #next: () => (() => Promise<void>) | undefined;
  #isStopped = true;
  #isSending = false;
  #timer: NodeJS.Timeout | undefined;

  /** @param next what tells the next thing, if there is one; it throws while there is no answer */
  constructor(next: () => (() => Promise<void>) | undefined) {
    this.#next = next;
  }

  start(): void {
    this.#isStopped = false;
    this.trigger();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** There may be something to tell. */
  trigger(): void {
    void this.#send();
  }

  async #send(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    clearTimeout(this.#timer);
    try {
      while (!this.#isStopped) {
        const tell = this.#next();
        if (tell === undefined) break;
        await tell();
      }
    } catch {
      if (!this.#isStopped) this.#timer = setTimeout(() => void this.#send(), RETRY_AFTER_MS);
    } finally {
      this.#isSending = false;
    }
  }
}

/**
 * What the key server has answered with in place of yes.
 * @throws the error when that was no answer: it is away, sealed, or has too much to do
 */
export function answeredRefusal(error: unknown): LatchkeyError {
  const known = toLatchkeyError(error);
  const isAnswer = !ERROR_TABLE[known.code].retryable && !isAway(known) && known.code !== 'DENIED_SEALED';
  if (isAnswer) return known;
  throw known;
}

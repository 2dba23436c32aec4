/** Plaintext goes into a store that is mounted; should somebody unmount it, the same path is on the disk. */
import { statSync, statfsSync } from 'node:fs';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';

export class MountedStore {
  readonly #directory: string;
  #device: number | undefined;

  /** @param directory where it is mounted */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Remembers what is mounted now, the first time it is called. */
  note(): void {
    this.#device ??= statSync(this.#directory).dev;
  }

  /** False when the program that serves it has ended, and with it the key to all that was in it. */
  answers(): boolean {
    try {
      // The kernel answers for a directory by itself for a second more; this it passes on.
      statfsSync(this.#directory);
      return true;
    } catch (error) {
      return !isDead(error);
    }
  }

  /**
   * Returns while it is still what was noted.
   * @throws LatchkeyError STATE_DAMAGED
   */
  require(): void {
    askStore(() => statfsSync(this.#directory));
    this.note();
    if (statSync(this.#directory).dev === this.#device) return;
    throw new LatchkeyError('STATE_DAMAGED', 'the plaintext store is no longer mounted', {
      hint: 'restart the agent, which mounts it again',
    });
  }
}

/**
 * Asks the file system of a store something.
 * @throws LatchkeyError STATE_DAMAGED when it does not answer any more
 */
export function askStore<Answer>(ask: () => Answer): Answer {
  try {
    return ask();
  } catch (error) {
    if (!isDead(error)) throw error;
    throw new LatchkeyError(
      'STATE_DAMAGED',
      'the plaintext store does not answer: what serves it has ended',
      {
        hint: 'restart the agent, which makes it anew',
        cause: error,
      },
    );
  }
}

/** What a FUSE mount says whose program has died. */
function isDead(error: unknown): boolean {
  return systemErrorCode(error) === 'ENOTCONN';
}

/** Plaintext goes into a store that is mounted; should somebody unmount it, the same path is on the disk. */
import { statSync } from 'node:fs';
import { LatchkeyError } from '#src/base/errors.ts';

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

  /**
   * Returns while it is still what was noted.
   * @throws LatchkeyError STATE_DAMAGED
   */
  require(): void {
    this.note();
    if (statSync(this.#directory).dev === this.#device) return;
    throw new LatchkeyError('STATE_DAMAGED', 'the plaintext store is no longer mounted', {
      hint: 'restart the agent, which mounts it again',
    });
  }
}

/**
 * The file that SQLite appends changes to (WAL, with synchronous=NORMAL: written at each commit, synced only before a
 * checkpoint; https://sqlite.org/pragma.html#pragma_synchronous). Syncing it from here makes commits as durable as
 * synchronous=FULL does, but beside the thread that answers calls, and once for all that wait.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { toLatchkeyError } from '#src/base/errors.ts';
import { JoinedTask } from '#src/base/joined-task.ts';

export class WriteAheadLog {
  readonly #path: string;
  #file: FileHandle | undefined;
  readonly #syncs = new JoinedTask(() => this.#sync());

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Resolves when everything written before the call is on the disk.
   * @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED
   */
  flush(): Promise<void> {
    return this.#syncs.run();
  }

  /** Syncs under way still end. */
  close(): void {
    void this.#syncs.ended().then(() => this.#file?.close());
  }

  async #sync(): Promise<void> {
    try {
      // SQLite keeps the file for as long as it has the database open.
      this.#file ??= await open(this.#path, 'r+');
      await this.#file.datasync();
    } catch (error) {
      throw toLatchkeyError(error);
    }
  }
}

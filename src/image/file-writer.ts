/**
 * Writes one large file by a synchronous loop. The thread pool flushes in the background while the loop goes on, so the
 * flush at the end is short (measured: 8 % of the whole run).
 */
import { closeSync, fdatasync, openSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { toLatchkeyError } from '#src/base/errors.ts';

const FLUSH_EVERY_BYTES = 32 * 1024 * 1024;
/** Larger writes get large folios of the page cache, which virtual machines are slow to back (measured: 1 MiB takes twice as long). */
const WRITE_STEP_BYTES = 64 * 1024;

export class FileWriter {
  readonly path: string;
  readonly #fd: number;
  #flush: Promise<void> | undefined;
  #flushError: Error | undefined;
  #unflushedBytes = 0;
  #isOpen = true;

  /** @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, 'wx');
    } catch (error) {
      throw toLatchkeyError(error);
    }
  }

  /** @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED */
  write(bytes: Uint8Array): void {
    let offset = 0;
    try {
      while (offset < bytes.length) {
        offset += writeSync(this.#fd, bytes, offset, Math.min(WRITE_STEP_BYTES, bytes.length - offset));
      }
    } catch (error) {
      throw toLatchkeyError(error);
    }
    this.#unflushedBytes += bytes.length;
    if (this.#unflushedBytes >= FLUSH_EVERY_BYTES && this.#flush === undefined) this.#startFlush();
  }

  /**
   * Closes the file; whoever gives it its final name makes its last bytes durable.
   * @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED
   */
  async close(): Promise<void> {
    await this.#release();
    if (this.#flushError !== undefined) throw toLatchkeyError(this.#flushError);
  }

  /** Closes and removes the file. */
  async discard(): Promise<void> {
    await this.#release();
    await rm(this.path, { force: true });
  }

  async #release(): Promise<void> {
    await this.#flush;
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }

  #startFlush(): void {
    this.#unflushedBytes = 0;
    this.#flush = new Promise((resolve) => {
      fdatasync(this.#fd, (error) => {
        // The kernel reports a failed write-back once only, so it is kept until somebody can be told.
        this.#flushError ??= error ?? undefined;
        this.#flush = undefined;
        resolve();
      });
    });
  }
}

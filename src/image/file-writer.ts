/**
 * Writes one file. Whole chunks of a large one go past the page cache (O_DIRECT), on the thread pool: the copy into the
 * cache costs more than encryption does, and what is written has to reach the disk anyway (measured).
 */
import { closeSync, constants, fdatasync, openSync, write, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';

const FLUSH_EVERY_BYTES = 32 * 1024 * 1024;
/** Larger writes get large folios of the page cache, which virtual machines are slow to back (measured: 1 MiB takes twice as long). */
const WRITE_STEP_BYTES = 64 * 1024;
/** Lengths and positions of direct writes are multiples of the disk's block size, at most this. */
const DIRECT_UNIT_BYTES = 4096;

const writeAt = promisify(write);
const flushFile = promisify(fdatasync);

export class FileWriter {
  readonly path: string;
  readonly #fd: number;
  /** The same file for direct writes, where the file system has them. */
  #directFd: number | undefined;
  /** Descriptors to close. */
  readonly #open: number[] = [];
  readonly #pending = new Set<Promise<void>>();
  #error: unknown;
  #position = 0;
  #unflushedBytes = 0;
  #isFlushing = false;

  /**
   * @param isLarge whether direct writes are worth it
   * @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED
   */
  constructor(path: string, isLarge: boolean) {
    this.path = path;
    try {
      this.#fd = openSync(path, 'wx');
    } catch (error) {
      throw toLatchkeyError(error);
    }
    this.#open.push(this.#fd);
    if (isLarge) this.#directFd = openDirect(path);
    if (this.#directFd !== undefined) this.#open.push(this.#directFd);
  }

  /**
   * Appends bytes, which must stay unchanged until the promise, if there is one, settles. Need not be awaited before
   * the next call.
   * @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED
   */
  write(bytes: Uint8Array): void | Promise<void> {
    const position = this.#position;
    this.#position += bytes.length;
    if (this.#directFd !== undefined && isWhole(position) && isWhole(bytes.length)) {
      return this.#track(this.#writeDirect(this.#directFd, bytes, position));
    }
    this.#writeCached(bytes, position);
  }

  /**
   * Closes the file; whoever gives it its final name makes its last bytes durable.
   * @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED
   */
  async close(): Promise<void> {
    await this.#release();
    if (this.#error !== undefined) throw toLatchkeyError(this.#error);
  }

  /** Closes and removes the file. */
  async discard(): Promise<void> {
    await this.#release();
    await rm(this.path, { force: true });
  }

  async #release(): Promise<void> {
    // A descriptor closed under a write could be another file's by then.
    await Promise.allSettled(this.#pending);
    for (const fd of this.#open.splice(0)) closeSync(fd);
  }

  async #writeDirect(fd: number, bytes: Uint8Array, position: number): Promise<void> {
    try {
      for (let offset = 0; offset < bytes.length;) {
        const { bytesWritten } = await writeAt(fd, bytes, offset, bytes.length - offset, position + offset);
        offset += bytesWritten;
      }
    } catch (error) {
      // Memory or file system do not lend themselves to it after all.
      if (systemErrorCode(error) !== 'EINVAL') throw error;
      this.#directFd = undefined;
      this.#writeCached(bytes, position);
    }
  }

  #writeCached(bytes: Uint8Array, position: number): void {
    try {
      for (let offset = 0; offset < bytes.length;) {
        const stepBytes = Math.min(WRITE_STEP_BYTES, bytes.length - offset);
        offset += writeSync(this.#fd, bytes, offset, stepBytes, position + offset);
      }
    } catch (error) {
      throw toLatchkeyError(error);
    }
    this.#unflushedBytes += bytes.length;
    if (this.#unflushedBytes >= FLUSH_EVERY_BYTES && !this.#isFlushing) this.#startFlush();
  }

  /** The thread pool flushes while the caller goes on, so the flush at the end is short (measured: 8 % of the whole run). */
  #startFlush(): void {
    this.#unflushedBytes = 0;
    this.#isFlushing = true;
    const flush = flushFile(this.#fd).finally(() => (this.#isFlushing = false));
    this.#track(flush).catch(() => undefined);
  }

  /** The kernel reports a failed write-back once only, so an error is kept until somebody can be told. */
  async #track(work: Promise<void>): Promise<void> {
    this.#pending.add(work);
    try {
      await work;
    } catch (error) {
      this.#error ??= error;
      throw toLatchkeyError(error);
    } finally {
      this.#pending.delete(work);
    }
  }
}

function isWhole(sizeBytes: number): boolean {
  return sizeBytes % DIRECT_UNIT_BYTES === 0;
}

function openDirect(path: string): number | undefined {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_DIRECT);
  } catch {
    // Not every file system has it; there the page cache serves.
    return undefined;
  }
}

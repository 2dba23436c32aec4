/**
 * A file read at any place. It holds a bare descriptor, which unlike a FileHandle stays silent when the process ends
 * with it open; what it names may be deleted already.
 */
import { close, open, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { toLatchkeyError } from '#src/base/errors.ts';
import { FILE_CHUNK_BYTES } from '#src/base/limits.ts';

const openAsync = promisify(open);
const closeAsync = promisify(close);

export class RandomAccessFile {
  readonly #descriptor: number;
  #isOpen = true;

  private constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /**
   * @param flags as fs.open takes them
   * @throws LatchkeyError STATE_NOT_FOUND, STORAGE_FAILED
   */
  static async open(path: string, flags: string, mode?: number): Promise<RandomAccessFile> {
    try {
      return new RandomAccessFile(await openAsync(path, flags, mode));
    } catch (error) {
      throw toLatchkeyError(error);
    }
  }

  /** Bytes from `offset` on, at most `maxBytes`; none at the end. */
  async read(offset: number, maxBytes: number): Promise<Uint8Array> {
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    read(this.#descriptor, Buffer.allocUnsafeSlow(maxBytes), 0, maxBytes, offset, (error, count, bytes) => {
      if (error === null) resolve(bytes.subarray(0, count));
      else reject(toLatchkeyError(error));
    });
    return promise;
  }

  /** Appends all bytes. @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED */
  async append(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length;) {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      write(this.#descriptor, bytes, offset, bytes.length - offset, null, (error, count) => {
        if (error === null) resolve(count);
        else reject(toLatchkeyError(error));
      });
      offset += await promise;
    }
  }

  /** Streams a range in {@link FILE_CHUNK_BYTES} pieces; ends early where the file does. */
  async *chunks(offset: number, sizeBytes: number): AsyncGenerator<Uint8Array, void, undefined> {
    for (let position = offset; position < offset + sizeBytes;) {
      const bytes = await this.read(position, Math.min(FILE_CHUNK_BYTES, offset + sizeBytes - position));
      if (bytes.length === 0) return;
      position += bytes.length;
      yield bytes;
    }
  }

  /** May be called again. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await closeAsync(this.#descriptor);
  }
}

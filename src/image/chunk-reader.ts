/** A layer's bytes, in full chunks, from a local file or from a stream. */
import { closeSync, openSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { toLatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';

export interface ChunkReader {
  /** Fills the buffer; fewer bytes only at the end, 0 after it. One read at a time. */
  read(buffer: Uint8Array): Promise<number>;
  /** Waits for the read under way, if there is one. */
  close(): Promise<void>;
}

const readAt = promisify(read);

/**
 * Opens a blob. A local file is not verified while it is read: the caller hashes it anyway and checks the digest.
 * @throws LatchkeyError STATE_NOT_FOUND, STORAGE_FAILED, and later what the source raises
 */
export function openChunkReader(
  source: BlobSource,
  descriptor: Descriptor,
  options: TransferOptions,
): ChunkReader {
  const path = source.localPath?.(descriptor.digest);
  return path === undefined
    ? new StreamChunkReader(source.openBlob(descriptor, { signal: options.signal }))
    : new FileChunkReader(path);
}

class FileChunkReader implements ChunkReader {
  readonly #fd: number;
  #reading: Promise<number> = Promise.resolve(0);

  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'r');
    } catch (error) {
      throw toLatchkeyError(error);
    }
  }

  read(buffer: Uint8Array): Promise<number> {
    this.#reading = this.#fill(buffer);
    return this.#reading;
  }

  async close(): Promise<void> {
    // A descriptor closed under a read could be another file's by then.
    await this.#reading.catch(() => undefined);
    closeSync(this.#fd);
  }

  async #fill(buffer: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < buffer.length) {
      const { bytesRead } = await readAt(this.#fd, buffer, filled, buffer.length - filled, null);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return filled;
  }
}

class StreamChunkReader implements ChunkReader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  async read(buffer: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < buffer.length) {
      if (this.#rest.length === 0) {
        const next = await this.#iterator.next();
        if (next.done === true) break;
        this.#rest = next.value;
      }
      const part = this.#rest.subarray(0, buffer.length - filled);
      buffer.set(part, filled);
      filled += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    return filled;
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}

/** A layer's bytes, in full chunks, from a local file by a synchronous loop or from a stream. */
import { closeSync, openSync, readSync } from 'node:fs';
import { toLatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';

export interface ChunkReader {
  /** Fills the buffer; fewer bytes only at the end, 0 after it. A number, not a promise, when nothing has to be awaited. */
  read(buffer: Uint8Array): number | Promise<number>;
  close(): Promise<void>;
}

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

  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'r');
    } catch (error) {
      throw toLatchkeyError(error);
    }
  }

  read(buffer: Uint8Array): number {
    let filled = 0;
    while (filled < buffer.length) {
      const count = readSync(this.#fd, buffer, filled, buffer.length - filled, null);
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  async close(): Promise<void> {
    closeSync(this.#fd);
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

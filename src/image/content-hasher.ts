/**
 * SHA-256 of what a layer contains: of its bytes, or of what they unpack to. The last bytes, a salt, are held back
 * from the hash, so the digests without and with them come from one pass.
 */
import { type Hash, createHash } from 'node:crypto';
import { type Gunzip, type ZstdDecompress, constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { MAX_ZSTD_WINDOW_LOG } from '#src/base/limits.ts';
import type { Compression } from '#src/oci/media-types.ts';
import { ZstdFrameSplitter } from './zstd-frames.ts';

/** Output piece of a decompressor; each costs a hop to the thread pool and back (measured: 256 KiB takes 1.5 times as long). */
const UNPACKED_CHUNK_BYTES = 1024 * 1024;
/** The same for a small layer, of which there may be many: the larger piece costs more to allocate than hops do. */
const SMALL_UNPACKED_CHUNK_BYTES = 64 * 1024;

/** How libzstd names a frame that needs a larger window than allowed (zstd_errors.h). */
const WINDOW_TOO_LARGE = 'ZSTD_error_frameParameter_windowTooLarge';

export interface ContentDigests {
  /** SHA-256 (hex) of the content without its last `tailBytes`. */
  readonly beforeTail: string;
  /** SHA-256 (hex) of the whole content. */
  readonly whole: string;
  /** The held-back bytes. */
  readonly tail: Uint8Array;
}

export interface ContentHasher {
  /**
   * Takes the next bytes; they must stay unchanged until the promise, if there is one, settles. Need not be awaited
   * before the next call.
   * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED for a zstd window that customers may not have memory for
   */
  update(bytes: Uint8Array): void | Promise<void>;
  /** @throws LatchkeyError INPUT_MALFORMED when it is not one whole gzip or zstd stream, LIMIT_EXCEEDED */
  finish(): Promise<ContentDigests>;
  close(): void;
}

/** Makes a hasher of a layer's content. */
export function createContentHasher(options: {
  /** What to undo before hashing. */
  readonly compression: Compression;
  /** How many bytes of content at the end to hold back. */
  readonly tailBytes: number;
  readonly isLarge: boolean;
}): ContentHasher {
  const hash = new TailedHash(options.tailBytes);
  const chunkSize = options.isLarge ? UNPACKED_CHUNK_BYTES : SMALL_UNPACKED_CHUNK_BYTES;
  switch (options.compression) {
    case 'none':
      return new PlainContentHasher(hash);
    case 'gzip':
      return new PackedContentHasher(hash, createGunzip({ chunkSize }), 'gzip');
    case 'zstd': {
      const params = { [constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG };
      const decompressor = createZstdDecompress({ chunkSize, params });
      return new PackedContentHasher(hash, decompressor, 'zstd', new ZstdFrameSplitter());
    }
  }
}

class TailedHash {
  readonly #hash: Hash = createHash('sha256');
  readonly #tailBytes: number;
  #tail = Buffer.alloc(0);

  constructor(tailBytes: number) {
    this.#tailBytes = tailBytes;
  }

  update(chunk: Uint8Array): void {
    if (chunk.length < this.#tailBytes) {
      const joined = Buffer.concat([this.#tail, chunk]);
      const tailStart = Math.max(0, joined.length - this.#tailBytes);
      this.#hash.update(joined.subarray(0, tailStart));
      this.#tail = joined.subarray(tailStart);
      return;
    }
    const tailStart = chunk.length - this.#tailBytes;
    this.#hash.update(this.#tail).update(chunk.subarray(0, tailStart));
    // A copy: the caller uses the chunk for something else.
    this.#tail = Buffer.from(chunk.subarray(tailStart));
  }

  digest(): ContentDigests {
    const beforeTail = this.#hash.copy().digest('hex');
    return { beforeTail, whole: this.#hash.update(this.#tail).digest('hex'), tail: this.#tail };
  }
}

class PlainContentHasher implements ContentHasher {
  readonly #hash: TailedHash;

  constructor(hash: TailedHash) {
    this.#hash = hash;
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  async finish(): Promise<ContentDigests> {
    return this.#hash.digest();
  }

  close(): void {
    // Nothing is held.
  }
}

class PackedContentHasher implements ContentHasher {
  readonly #decompressor: Gunzip | ZstdDecompress;
  readonly #format: string;
  readonly #splitter: ZstdFrameSplitter | undefined;
  readonly #hash: TailedHash;
  /** Settles when the decompressor will take no more: at the end of its stream, or at an error. */
  readonly #ended: Promise<void>;
  #takenBytes = 0;

  constructor(
    hash: TailedHash,
    decompressor: Gunzip | ZstdDecompress,
    format: string,
    splitter?: ZstdFrameSplitter,
  ) {
    this.#hash = hash;
    this.#decompressor = decompressor;
    this.#format = format;
    this.#splitter = splitter;
    this.#ended = new Promise((resolve, reject) => {
      decompressor.once('end', resolve);
      decompressor.once('error', (error) => reject(this.#damage(error)));
    });
    // Looked at by update and finish; an error between them must not count as unhandled.
    this.#ended.catch(() => undefined);
    // A turn later, for then the thread pool works on the next piece already.
    decompressor.on('data', (chunk: Buffer) => process.nextTick(() => this.#take(chunk)));
  }

  async update(compressed: Uint8Array): Promise<void> {
    this.#takenBytes += compressed.length;
    const pieces = [...(this.#splitter?.split(compressed) ?? [compressed])];
    await Promise.all(pieces.map((piece) => this.#write(piece)));
  }

  async finish(): Promise<ContentDigests> {
    this.#decompressor.end();
    await this.#ended;
    // zlib overlooks zeros behind the last member; other readers refuse them.
    if (this.#decompressor.bytesWritten !== this.#takenBytes) {
      throw notWhole(this.#format, 'there are bytes behind its end');
    }
    return this.#hash.digest();
  }

  close(): void {
    this.#decompressor.destroy();
  }

  async #write(piece: Uint8Array): Promise<void> {
    const written = new Promise<void>((resolve, reject) => {
      this.#decompressor.write(piece, (error) => {
        if (error) reject(this.#damage(error));
        else resolve();
      });
    });
    // With bytes behind the last member zlib ends and never answers the write.
    await Promise.race([written, this.#ended]);
  }

  #take(chunk: Buffer): void {
    this.#hash.update(chunk);
    // The decompressor is done with a buffer it has filled; the collector would let tens of MiB of them pile up.
    if (chunk.byteOffset + chunk.length === chunk.buffer.byteLength)
      (chunk.buffer as ArrayBuffer).transfer(0);
  }

  #damage(error: Error): LatchkeyError {
    if (systemErrorCode(error) !== WINDOW_TOO_LARGE) return notWhole(this.#format, error.message, error);
    return new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the layer needs a zstd window of more than ${2 ** MAX_ZSTD_WINDOW_LOG} bytes`,
      {
        hint: 'compress it again without --long, or with gzip: who pulls it may not have that memory',
        cause: error,
      },
    );
  }
}

function notWhole(format: string, reason: string, cause?: Error): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', `the layer is not a whole ${format} stream (${reason})`, {
    hint: 'the image is damaged, or its media type names another compression; build it again',
    cause,
  });
}

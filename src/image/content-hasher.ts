/**
 * SHA-256 of what a layer contains: of its bytes, or of what its gzip unpacks to. The last bytes, a salt, are held back
 * from the hash, so the digests without and with them come from one pass.
 */
import { type Hash, createHash } from 'node:crypto';
import { type Gunzip, createGunzip } from 'node:zlib';
import { LatchkeyError } from '#src/base/errors.ts';

/** Output piece of inflate; each costs a hop to the thread pool and back (measured: 256 KiB takes 1.5 times as long). */
const INFLATE_CHUNK_BYTES = 1024 * 1024;

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
   * @throws LatchkeyError INPUT_MALFORMED
   */
  update(bytes: Uint8Array): void | Promise<void>;
  /** @throws LatchkeyError INPUT_MALFORMED when it is not one whole gzip */
  finish(): Promise<ContentDigests>;
  close(): void;
}

/** Makes a hasher of a layer's content. */
export function createContentHasher(options: {
  /** Whether to hash what the bytes unpack to. */
  readonly isGzip: boolean;
  /** How many bytes of content at the end to hold back. */
  readonly tailBytes: number;
}): ContentHasher {
  const hash = new TailedHash(options.tailBytes);
  return options.isGzip ? new GzipContentHasher(hash) : new PlainContentHasher(hash);
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

class GzipContentHasher implements ContentHasher {
  readonly #gunzip: Gunzip = createGunzip({ chunkSize: INFLATE_CHUNK_BYTES });
  readonly #hash: TailedHash;
  /** Settles when zlib will take no more: at the end of the gzip, or at an error. */
  readonly #ended: Promise<void>;
  #takenBytes = 0;

  constructor(hash: TailedHash) {
    this.#hash = hash;
    this.#ended = new Promise((resolve, reject) => {
      this.#gunzip.once('end', resolve);
      this.#gunzip.once('error', (error) => reject(notGzip(error.message, error)));
    });
    // Looked at by update and finish; an error between them must not count as unhandled.
    this.#ended.catch(() => undefined);
    // A turn later, for then zlib works on the next piece already.
    this.#gunzip.on('data', (chunk: Buffer) => process.nextTick(() => this.#take(chunk)));
  }

  async update(compressed: Uint8Array): Promise<void> {
    this.#takenBytes += compressed.length;
    const written = new Promise<void>((resolve, reject) => {
      this.#gunzip.write(compressed, (error) => {
        if (error) reject(notGzip(error.message, error));
        else resolve();
      });
    });
    // With bytes behind the last member zlib ends and never answers the write.
    await Promise.race([written, this.#ended]);
  }

  async finish(): Promise<ContentDigests> {
    this.#gunzip.end();
    await this.#ended;
    // zlib overlooks zeros behind the last member; other readers refuse them.
    if (this.#gunzip.bytesWritten !== this.#takenBytes) throw notGzip('there are bytes behind its end');
    return this.#hash.digest();
  }

  close(): void {
    this.#gunzip.destroy();
  }

  #take(chunk: Buffer): void {
    this.#hash.update(chunk);
    // zlib is done with a buffer it has filled; the collector would let tens of MiB of them pile up.
    if (chunk.byteOffset + chunk.length === chunk.buffer.byteLength)
      (chunk.buffer as ArrayBuffer).transfer(0);
  }
}

function notGzip(reason: string, cause?: Error): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', `the layer is not a whole gzip stream (${reason})`, {
    hint: 'the image is damaged, or its media type names another compression; build it again',
    cause,
  });
}

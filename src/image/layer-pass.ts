/**
 * One pass over one layer: read, transform (encrypt or decrypt), hash, write. Of a large layer the ciphertext is hashed
 * on the hash thread; the calling thread does the rest, and inflate runs on the thread pool. SHA-256 bounds it all, the
 * cipher is nearly free, so the hashes are what is spread over cores.
 */
import type { Cipheriv, Decipheriv } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { toLatchkeyError } from '#src/base/errors.ts';
import { FILE_CHUNK_BYTES } from '#src/base/limits.ts';
import { type LayerKey, createLayerCipher, createLayerDecipher } from '#src/crypto/layer-cipher.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import { throwIfAborted, tooLong, truncated } from '#src/store/verified-stream.ts';
import { type ChunkReader, openChunkReader } from './chunk-reader.ts';
import { type CiphertextDigests, CiphertextHasher } from './ciphertext-hasher.ts';
import { type ContentDigests, type ContentHasher, createContentHasher } from './content-hasher.ts';
import { FileWriter } from './file-writer.ts';
import type { HashThread } from './hash-thread.ts';

/** Below this a thread costs more than it gains (measured). */
const THREAD_FROM_BYTES = 4 * 1024 * 1024;
/** Signals and progress are served once per this many chunks. */
const CHUNKS_PER_TURN = 16;
/** Pieces for the cipher, whose output buffers malloc can then reuse (measured: a third less CPU than 1 MiB). */
const CIPHER_STEP_BYTES = 64 * 1024;
/** Chunks of plaintext at a time, so that inflate is busy with one while the next is read and encrypted. */
const PLAINTEXT_CHUNKS = 3;

export interface LayerPassRequest extends TransferOptions {
  readonly direction: 'encrypt' | 'decrypt';
  readonly source: BlobSource;
  /** The layer as it is in the source. */
  readonly descriptor: Descriptor;
  readonly key: LayerKey;
  /** Plaintext appended when encrypting. */
  readonly appended?: Uint8Array | undefined;
  /** Whether the content digests are of what the plaintext unpacks to, instead of the plaintext. */
  readonly isGzipContent: boolean;
  /** How many bytes of content the appended plaintext adds. */
  readonly tailBytes: number;
  /** Path of the file to write. */
  readonly path: string;
  /** Gives the hash thread when the layer is worth it. */
  readonly thread: () => HashThread;
}

export interface LayerPassResult extends CiphertextDigests {
  readonly content: ContentDigests;
  /** Size of what was written. */
  readonly sizeBytes: number;
}

/**
 * Runs the pass; leaves no file behind when it fails.
 * @throws LatchkeyError INPUT_TRUNCATED, INPUT_DIGEST_MISMATCH for a wrong length, INPUT_MALFORMED, STORAGE_*,
 *   INTERRUPTED, and what the source raises. The digests are for the caller to check.
 */
export async function passLayer(request: LayerPassRequest): Promise<LayerPassResult> {
  const reader = openChunkReader(request.source, request.descriptor, request);
  const contentHasher = createContentHasher({
    isGzip: request.isGzipContent,
    tailBytes: request.tailBytes,
  });
  let writer: FileWriter | undefined;
  try {
    writer = new FileWriter(request.path);
    const result = await pass(request, reader, contentHasher, writer);
    await writer.close();
    return result;
  } catch (error) {
    await writer?.discard();
    throw toLatchkeyError(error);
  } finally {
    contentHasher.close();
    await reader.close();
  }
}

async function pass(
  request: LayerPassRequest,
  reader: ChunkReader,
  contentHasher: ContentHasher,
  writer: FileWriter,
): Promise<LayerPassResult> {
  const { direction, descriptor, appended, signal } = request;
  const isEncryption = direction === 'encrypt';
  const cipher = isEncryption ? createLayerCipher(request.key) : createLayerDecipher(request.key);
  const desk = createCiphertextDesk(request);
  const plaintexts = new PlaintextChunks();

  async function handle(plaintext: Uint8Array, ciphertext: Uint8Array): Promise<void> {
    // Inflate begins before the cipher does, and goes on beside it.
    if (isEncryption) plaintexts.lend(contentHasher.update(plaintext));
    const [input, output] = isEncryption ? [plaintext, ciphertext] : [ciphertext, plaintext];
    transform(cipher, input, output);
    if (!isEncryption) plaintexts.lend(contentHasher.update(plaintext));
    desk.commit(ciphertext.length);
    writer.write(output);
  }

  let sourceBytes = 0;
  for (let chunks = 1; ; chunks += 1) {
    const ciphertext = await desk.acquire();
    const plaintext = await plaintexts.acquire();
    const sizeBytes = await reader.read(isEncryption ? plaintext : ciphertext);
    if (sizeBytes === 0) break;
    sourceBytes += sizeBytes;
    if (sourceBytes > descriptor.size) throw tooLong(descriptor, request.source.location);
    await handle(plaintext.subarray(0, sizeBytes), ciphertext.subarray(0, sizeBytes));
    request.onBytes?.(sizeBytes);
    throwIfAborted(signal);
    if (chunks % CHUNKS_PER_TURN === 0) await nextTurn();
  }
  if (sourceBytes < descriptor.size) throw truncated(descriptor, request.source.location, sourceBytes);
  if (appended !== undefined) {
    const ciphertext = await desk.acquire();
    await handle(appended, ciphertext.subarray(0, appended.length));
  }
  const content = await contentHasher.finish();
  return {
    ...(await desk.finish()),
    content,
    sizeBytes: sourceBytes + (appended?.length ?? 0),
  };
}

function transform(cipher: Cipheriv | Decipheriv, input: Uint8Array, output: Uint8Array): void {
  for (let start = 0; start < input.length; start += CIPHER_STEP_BYTES) {
    const piece = cipher.update(input.subarray(start, start + CIPHER_STEP_BYTES));
    output.set(piece, start);
    // Given back at once: the collector would let tens of MiB of these pile up.
    piece.buffer.transfer(0);
  }
}

/** Chunks of plaintext in turns, each used again when the content hasher is done with it. */
class PlaintextChunks {
  readonly #chunks = Array.from({ length: PLAINTEXT_CHUNKS }, () => new Uint8Array(FILE_CHUNK_BYTES));
  readonly #lent: Promise<void>[] = [];

  /** @throws what the content hasher raises */
  async acquire(): Promise<Uint8Array> {
    if (this.#lent.length === PLAINTEXT_CHUNKS) await this.#lent.shift();
    const chunk = this.#chunks.shift();
    if (chunk === undefined) throw new TypeError('no such chunk');
    this.#chunks.push(chunk);
    return chunk;
  }

  /** Keeps the chunk that `acquire` gave until the promise settles. */
  lend(use: void | Promise<void>): void {
    const settled = Promise.resolve(use);
    // Looked at when the chunk is wanted again; a failure before that must not count as unhandled.
    settled.catch(() => undefined);
    this.#lent.push(settled);
  }
}

/** Where ciphertext lies while it is worked on, and who hashes it. */
interface CiphertextDesk {
  acquire(): Uint8Array | Promise<Uint8Array>;
  commit(sizeBytes: number): void;
  finish(): CiphertextDigests | Promise<CiphertextDigests>;
}

function createCiphertextDesk(request: LayerPassRequest): CiphertextDesk {
  const { symmetricKey } = request.key;
  if (request.descriptor.size >= THREAD_FROM_BYTES) {
    const thread = request.thread();
    thread.start({ symmetricKey });
    return thread;
  }
  const hasher = new CiphertextHasher({ symmetricKey });
  const chunk = new Uint8Array(FILE_CHUNK_BYTES);
  return {
    acquire: () => chunk,
    commit: (sizeBytes) => hasher.update(chunk.subarray(0, sizeBytes)),
    finish: () => hasher.finish(),
  };
}

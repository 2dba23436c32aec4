/**
 * One pass over one layer: read, transform (encrypt or decrypt), hash, write. Of a large layer the ciphertext is hashed
 * on the hash thread; the calling thread does the rest, and inflate runs on the thread pool. SHA-256 bounds it all, the
 * cipher is nearly free, so the hashes are what is spread over cores.
 */
import type { Cipheriv, Decipheriv } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { toLatchkeyError } from '#src/base/errors.ts';
import { FILE_CHUNK_BYTES, LARGE_LAYER_BYTES, LAYER_SALT_BYTES } from '#src/base/limits.ts';
import { type LayerKey, createLayerCipher, createLayerDecipher } from '#src/crypto/layer-cipher.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Compression } from '#src/oci/media-types.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import { throwIfAborted, tooLong, truncated } from '#src/store/verified-stream.ts';
import { allocateAligned } from './aligned-memory.ts';
import { type ChunkReader, openChunkReader } from './chunk-reader.ts';
import { type CiphertextDigests, CiphertextHasher } from './ciphertext-hasher.ts';
import { type ContentDigests, type ContentHasher, createContentHasher } from './content-hasher.ts';
import { FileWriter } from './file-writer.ts';
import type { HashThread } from './hash-thread.ts';

/** Pieces for the cipher, whose output buffers malloc can then reuse (measured: a third less CPU than 1 MiB). */
const CIPHER_STEP_BYTES = 64 * 1024;
/** Chunks of plaintext at a time: one is read, one worked on, others are unpacked or written meanwhile. */
const PLAINTEXT_CHUNKS = 5;

/** Room for appended plaintext, however small the layer is. */
const SMALLEST_CHUNK_BYTES = 2 * LAYER_SALT_BYTES;

export interface LayerPassRequest extends TransferOptions {
  readonly direction: 'encrypt' | 'decrypt';
  readonly source: BlobSource;
  /** The layer as it is in the source. */
  readonly descriptor: Descriptor;
  readonly key: LayerKey;
  /** Plaintext appended when encrypting. */
  readonly appended?: Uint8Array | undefined;
  /** What to undo of the plaintext before the content digests are made; `none` makes them of the plaintext itself. */
  readonly contentCompression: Compression;
  /** How many bytes of content the appended plaintext adds. */
  readonly tailBytes: number;
  /** Set to have the diff ID computed besides: what to undo of the plaintext for that. */
  readonly diffIdCompression?: Compression | undefined;
  /** Path of the file to write. */
  readonly path: string;
  /** Gives the hash thread when the layer is worth it. */
  readonly thread: () => HashThread;
}

export interface LayerPassResult extends CiphertextDigests {
  readonly content: ContentDigests;
  /** SHA-256 (hex) of the unpacked layer, when it was asked for. */
  readonly diffIdSha256: string | undefined;
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
  const large = isLarge(request.descriptor);
  const contentHasher = createContentHasher({
    compression: request.contentCompression,
    tailBytes: request.tailBytes,
    isLarge: large,
  });
  const compression = request.diffIdCompression;
  const diffIdHasher =
    compression === undefined
      ? undefined
      : createContentHasher({ compression, tailBytes: 0, isLarge: large });
  let writer: FileWriter | undefined;
  try {
    writer = new FileWriter(request.path, large);
    const result = await pass(request, reader, { contentHasher, diffIdHasher }, writer);
    await writer.close();
    return result;
  } catch (error) {
    await writer?.discard();
    throw toLatchkeyError(error);
  } finally {
    contentHasher.close();
    diffIdHasher?.close();
    await reader.close();
  }
}

interface PlaintextHashers {
  readonly contentHasher: ContentHasher;
  readonly diffIdHasher: ContentHasher | undefined;
}

/** One chunk in both forms; one of them is filled from the source, the other one by the cipher. */
interface FilledChunk {
  readonly plaintext: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly sizeBytes: number;
}

async function pass(
  request: LayerPassRequest,
  reader: ChunkReader,
  { contentHasher, diffIdHasher }: PlaintextHashers,
  writer: FileWriter,
): Promise<LayerPassResult> {
  const { direction, descriptor, appended, signal } = request;
  const isEncryption = direction === 'encrypt';
  const cipher = isEncryption ? createLayerCipher(request.key) : createLayerDecipher(request.key);
  const desk = createCiphertextDesk(request);
  const plaintexts = allocateChunks(descriptor, isLarge(descriptor) ? PLAINTEXT_CHUNKS : 2);
  const uses = new ChunkUses();

  async function handle(chunk: FilledChunk): Promise<void> {
    const plaintext = chunk.plaintext.subarray(0, chunk.sizeBytes);
    const ciphertext = chunk.ciphertext.subarray(0, chunk.sizeBytes);
    if (isEncryption) {
      // Inflate begins before the cipher does, and goes on beside it.
      uses.add(chunk.plaintext, contentHasher.update(plaintext));
      transform(cipher, plaintext, ciphertext);
      desk.commit(chunk.sizeBytes);
      uses.add(chunk.ciphertext, writer.write(ciphertext));
    } else {
      transform(cipher, ciphertext, plaintext);
      uses.add(chunk.plaintext, writer.write(plaintext));
      desk.commit(chunk.sizeBytes);
      uses.add(chunk.plaintext, contentHasher.update(plaintext));
      uses.add(chunk.plaintext, diffIdHasher?.update(plaintext));
    }
  }

  async function fill(): Promise<FilledChunk> {
    const plaintext = await uses.free(takeTurn(plaintexts));
    const ciphertext = await uses.free(await desk.acquire());
    return { plaintext, ciphertext, sizeBytes: await reader.read(isEncryption ? plaintext : ciphertext) };
  }

  let sourceBytes = 0;
  let chunk = await fill();
  while (chunk.sizeBytes > 0) {
    sourceBytes += chunk.sizeBytes;
    if (sourceBytes > descriptor.size) throw tooLong(descriptor, request.source.location);
    const next = fill();
    // Looked at below; a failure before that must not count as unhandled.
    next.catch(() => undefined);
    // Lets the read and inflate get under way, and signals through.
    await nextTurn();
    await handle(chunk);
    request.onBytes?.(chunk.sizeBytes);
    throwIfAborted(signal);
    chunk = await next;
  }
  if (sourceBytes < descriptor.size) throw truncated(descriptor, request.source.location, sourceBytes);
  if (appended !== undefined) {
    await handle({ plaintext: appended, ciphertext: chunk.ciphertext, sizeBytes: appended.length });
  }
  const content = await contentHasher.finish();
  const diffIdSha256 = (await diffIdHasher?.finish())?.whole;
  return {
    ...(await desk.finish()),
    content,
    diffIdSha256,
    sizeBytes: sourceBytes + (appended?.length ?? 0),
  };
}

/** Whether the layer is worth a thread and direct writes. */
function isLarge({ size }: Descriptor): boolean {
  return size >= LARGE_LAYER_BYTES;
}

/** Chunks to work in; a small layer fits into one, and one byte more of room tells a blob that is too long. */
function allocateChunks(descriptor: Descriptor, count: number): Uint8Array[] {
  if (isLarge(descriptor)) return allocateAligned(FILE_CHUNK_BYTES, count);
  const chunkBytes = Math.min(FILE_CHUNK_BYTES, Math.max(SMALLEST_CHUNK_BYTES, descriptor.size + 1));
  return Array.from({ length: count }, () => new Uint8Array(chunkBytes));
}

/** The chunk whose turn it is, which goes to the end. */
function takeTurn(chunks: Uint8Array[]): Uint8Array {
  const chunk = chunks.shift();
  if (chunk === undefined) throw new TypeError('no chunks');
  chunks.push(chunk);
  return chunk;
}

function transform(cipher: Cipheriv | Decipheriv, input: Uint8Array, output: Uint8Array): void {
  for (let start = 0; start < input.length; start += CIPHER_STEP_BYTES) {
    const piece = cipher.update(input.subarray(start, start + CIPHER_STEP_BYTES));
    output.set(piece, start);
    // Given back at once: the collector would let tens of MiB of these pile up.
    piece.buffer.transfer(0);
  }
}

/** Who still works on which chunk; a chunk may be filled again when nobody does. */
class ChunkUses {
  readonly #uses = new Map<Uint8Array, Promise<void>[]>();

  add(chunk: Uint8Array, use: void | Promise<void>): void {
    if (use === undefined) return;
    // Looked at when the chunk is wanted again; a failure before that must not count as unhandled.
    use.catch(() => undefined);
    this.#uses.set(chunk, [...(this.#uses.get(chunk) ?? []), use]);
  }

  /** @throws what failed while the chunk was worked on */
  async free(chunk: Uint8Array): Promise<Uint8Array> {
    await Promise.all(this.#uses.get(chunk) ?? []);
    this.#uses.delete(chunk);
    return chunk;
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
  if (isLarge(request.descriptor)) {
    const thread = request.thread();
    thread.start({ symmetricKey });
    return thread;
  }
  const hasher = new CiphertextHasher({ symmetricKey });
  // One to work on and one to read ahead into.
  const chunks = allocateChunks(request.descriptor, 2);
  const acquired: Uint8Array[] = [];
  return {
    acquire: () => {
      const chunk = takeTurn(chunks);
      acquired.push(chunk);
      return chunk;
    },
    commit: (sizeBytes) => {
      const chunk = acquired.shift();
      if (chunk !== undefined) hasher.update(chunk.subarray(0, sizeBytes));
    },
    finish: () => hasher.finish(),
  };
}

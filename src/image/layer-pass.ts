/**
 * One pass over one layer: read, transform (encrypt or decrypt), hash, write. The calling thread reads, hashes the
 * plaintext, ciphers and writes; the passes over the ciphertext and the diff IDs run on the hash thread when the
 * layer is large. SHA-256 bounds it all, the cipher is nearly free, so the passes are what is spread over cores.
 */
import { type Cipheriv, type Decipheriv, createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { toLatchkeyError } from '#src/base/errors.ts';
import { FILE_CHUNK_BYTES } from '#src/base/limits.ts';
import { type LayerKey, createLayerCipher, createLayerDecipher } from '#src/crypto/layer-cipher.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import { throwIfAborted, tooLong, truncated } from '#src/store/verified-stream.ts';
import { type ChunkReader, openChunkReader } from './chunk-reader.ts';
import { FileWriter } from './file-writer.ts';
import type { HashThread } from './hash-thread.ts';
import { type LayerDigestResult, LayerDigests } from './layer-digests.ts';
import type { LayerSlot } from './layer-ring.ts';

/** Below this a thread costs more than it gains (measured). */
const THREAD_FROM_BYTES = 4 * 1024 * 1024;
/** Signals and progress are served once per this many chunks. */
const CHUNKS_PER_TURN = 16;
/** Pieces for the cipher, whose output buffers malloc can then reuse (measured: a third less CPU than 1 MiB). */
const CIPHER_STEP_BYTES = 64 * 1024;

export interface LayerPassRequest extends TransferOptions {
  readonly direction: 'encrypt' | 'decrypt';
  readonly source: BlobSource;
  /** The layer as it is in the source. */
  readonly descriptor: Descriptor;
  readonly key: LayerKey;
  /** Plaintext appended when encrypting. */
  readonly appended?: Uint8Array | undefined;
  /** See {@link LayerDigests}. */
  readonly gzipTailBytes?: number | undefined;
  /** Path of the file to write. */
  readonly path: string;
  /** Gives the hash thread when the layer is worth it. */
  readonly thread: () => HashThread;
}

export interface LayerPassResult extends LayerDigestResult {
  /** SHA-256 (hex) of the plaintext without and with what was appended. */
  readonly plainSha256: string;
  readonly appendedPlainSha256: string;
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
  const desk = createDesk(request);
  let writer: FileWriter | undefined;
  try {
    writer = new FileWriter(request.path);
    const result = await pass(request, reader, desk, writer);
    await writer.close();
    return result;
  } catch (error) {
    await writer?.discard();
    throw toLatchkeyError(error);
  } finally {
    desk.close();
    await reader.close();
  }
}

/** Where chunks lie while they are worked on, and who hashes them. */
interface ChunkDesk {
  acquire(): LayerSlot | Promise<LayerSlot>;
  commit(slot: LayerSlot, sizeBytes: number): void | Promise<void>;
  finish(): Promise<LayerDigestResult>;
  close(): void;
}

async function pass(
  request: LayerPassRequest,
  reader: ChunkReader,
  desk: ChunkDesk,
  writer: FileWriter,
): Promise<LayerPassResult> {
  const { direction, descriptor, appended, signal } = request;
  const isEncryption = direction === 'encrypt';
  const cipher: Cipheriv | Decipheriv = isEncryption
    ? createLayerCipher(request.key)
    : createLayerDecipher(request.key);
  const plainHash = createHash('sha256');

  async function handle(slot: LayerSlot, sizeBytes: number): Promise<void> {
    const input = (isEncryption ? slot.plaintext : slot.ciphertext).subarray(0, sizeBytes);
    const output = (isEncryption ? slot.ciphertext : slot.plaintext).subarray(0, sizeBytes);
    for (let start = 0; start < sizeBytes; start += CIPHER_STEP_BYTES) {
      const piece = cipher.update(input.subarray(start, start + CIPHER_STEP_BYTES));
      output.set(piece, start);
      // Given back at once: the collector would let tens of MiB of these pile up.
      piece.buffer.transfer(0);
    }
    plainHash.update(isEncryption ? input : output);
    writer.write(output);
    await desk.commit(slot, sizeBytes);
  }

  let sourceBytes = 0;
  for (let chunks = 1; ; chunks += 1) {
    const slot = await desk.acquire();
    const sizeBytes = await reader.read(isEncryption ? slot.plaintext : slot.ciphertext);
    if (sizeBytes === 0) break;
    sourceBytes += sizeBytes;
    if (sourceBytes > descriptor.size) throw tooLong(descriptor, request.source.location);
    await handle(slot, sizeBytes);
    request.onBytes?.(sizeBytes);
    throwIfAborted(signal);
    if (chunks % CHUNKS_PER_TURN === 0) await nextTurn();
  }
  if (sourceBytes < descriptor.size) throw truncated(descriptor, request.source.location, sourceBytes);
  const plainSha256 = plainHash.copy().digest('hex');
  if (appended !== undefined) {
    const slot = await desk.acquire();
    slot.plaintext.set(appended);
    await handle(slot, appended.length);
  }
  return {
    ...(await desk.finish()),
    plainSha256,
    appendedPlainSha256: plainHash.digest('hex'),
    sizeBytes: sourceBytes + (appended?.length ?? 0),
  };
}

function createDesk(request: LayerPassRequest): ChunkDesk {
  const digestRequest = {
    symmetricKey: request.key.symmetricKey,
    gzipTailBytes: request.gzipTailBytes,
  };
  if (request.descriptor.size >= THREAD_FROM_BYTES) {
    const thread = request.thread();
    thread.start(digestRequest);
    return {
      acquire: () => thread.acquire(),
      commit: (_slot, sizeBytes) => thread.commit(sizeBytes),
      finish: () => thread.finish(),
      // The thread is its owner's to stop.
      close: () => undefined,
    };
  }
  const digests = new LayerDigests(digestRequest);
  const slot = {
    plaintext: new Uint8Array(FILE_CHUNK_BYTES),
    ciphertext: new Uint8Array(FILE_CHUNK_BYTES),
  };
  return {
    acquire: () => slot,
    commit: ({ plaintext, ciphertext }, sizeBytes) =>
      digests.update(plaintext.subarray(0, sizeBytes), ciphertext.subarray(0, sizeBytes)),
    finish: () => digests.finish(),
    close: () => digests.close(),
  };
}

/**
 * A layer through two pipes, in a plain synchronous loop: the fastest form there is (measured), and the reason
 * it runs on a worker thread. The last bytes stay here until the whole layer has proved authentic; a layer
 * without its tail cannot be committed by containerd, whatever happens to our exit status.
 */
import { readSync, writeSync } from 'node:fs';
import { systemErrorCode } from '#src/base/errors.ts';
import { HELD_BACK_BYTES, LAYER_HEAD_BYTES, PIPE_CHUNK_BYTES } from '#src/base/limits.ts';
import type { LayerDecryptor } from '#src/crypto/layer-cipher.ts';
import { type ProgressCells, noteProgress, requireNotGivenUp } from './layer-progress.ts';

/** Wait after EAGAIN: somebody who shares the pipe has made it non-blocking. */
const RETRY_MS = 1;

/**
 * Reads the head by which a layer is known: LAYER_HEAD_BYTES, or all of a shorter layer.
 * @throws LatchkeyError NET_TIMEOUT when it has been given up
 */
export function readHead(input: number, progress: ProgressCells): Buffer {
  const head = Buffer.alloc(LAYER_HEAD_BYTES);
  let length = 0;
  while (length < head.length) {
    const count = readSome(input, head, length, progress);
    if (count === 0) break;
    length += count;
  }
  return head.subarray(0, length);
}

/**
 * Decrypts from one file descriptor to another.
 * @param head what has been read already
 * @returns bytes of plaintext
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED before the tail is written, NET_TIMEOUT when it has been given up
 */
export function decryptStream(
  { input, output }: { readonly input: number; readonly output: number },
  head: Uint8Array,
  decryptor: LayerDecryptor,
  progress: ProgressCells,
): number {
  const chunk = Buffer.allocUnsafe(PIPE_CHUNK_BYTES);
  const held: Buffer[] = [];
  let heldBytes = 0;
  let totalBytes = 0;
  const take = (ciphertext: Uint8Array): void => {
    const plaintext = decryptor.update(ciphertext);
    held.push(plaintext);
    heldBytes += plaintext.length;
    totalBytes += plaintext.length;
    for (
      let [oldest] = held;
      oldest !== undefined && heldBytes - oldest.length >= HELD_BACK_BYTES;
      [oldest] = held
    ) {
      const { length } = oldest;
      writeAll(output, oldest, progress);
      held.shift();
      heldBytes -= length;
      release(oldest);
    }
  };
  if (head.length > 0) take(head);
  const read = (): number => readSome(input, chunk, 0, progress);
  for (let count = read(); count > 0; count = read()) take(chunk.subarray(0, count));
  decryptor.verify();
  for (const rest of held) writeAll(output, rest, progress);
  return totalBytes;
}

/** Gives a written buffer's memory back now: the garbage collector would let hundreds of them pile up. */
function release(bytes: Buffer): void {
  const { buffer } = bytes;
  // Small buffers share one allocation with others.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.length) buffer.transfer(0);
}

function readSome(input: number, into: Buffer, offset: number, progress: ProgressCells): number {
  for (;;) {
    try {
      const count = readSync(input, into, offset, into.length - offset, null);
      noteProgress(progress);
      return count;
    } catch (error) {
      if (systemErrorCode(error) !== 'EAGAIN') throw error;
      pause(progress);
    }
  }
}

function writeAll(output: number, bytes: Uint8Array, progress: ProgressCells): void {
  for (let written = 0; written < bytes.length;) {
    try {
      written += writeSync(output, bytes, written, bytes.length - written);
      noteProgress(progress);
    } catch (error) {
      if (systemErrorCode(error) !== 'EAGAIN') throw error;
      pause(progress);
    }
  }
}

function pause(progress: ProgressCells): void {
  requireNotGivenUp(progress);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
}

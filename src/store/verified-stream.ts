/**
 * Size and digest checked while a blob flows by. The last chunk is held back until both are right, so a consumer that
 * reaches the end has seen the true content and one that was cheated never does.
 */
import { createHash } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestFromHex } from '#src/oci/digest.ts';
import type { TransferOptions } from './blob-store.ts';

/**
 * Passes the chunks on; each must stay unchanged until the next but one was asked for.
 * @param location where they come from, for messages
 * @throws LatchkeyError INPUT_TRUNCATED, INPUT_DIGEST_MISMATCH, INTERRUPTED
 */
export async function* verifiedStream(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  descriptor: Descriptor,
  location: string,
  options: TransferOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = createHash('sha256');
  let heldBack: Uint8Array | undefined;
  let sizeBytes = 0;
  for await (const chunk of chunks) {
    throwIfAborted(options.signal);
    if (chunk.length === 0) continue;
    sizeBytes += chunk.length;
    if (sizeBytes > descriptor.size) throw tooLong(descriptor, location);
    hash.update(chunk);
    if (heldBack !== undefined) {
      options.onBytes?.(heldBack.length);
      yield heldBack;
    }
    heldBack = chunk;
  }
  if (sizeBytes < descriptor.size) throw truncated(descriptor, location, sizeBytes);
  if (digestFromHex(hash.digest('hex')) !== descriptor.digest) throw wrongContent(descriptor, location);
  if (heldBack !== undefined) {
    options.onBytes?.(heldBack.length);
    yield heldBack;
  }
}

/**
 * Reads a whole small blob, such as an image config, into memory.
 * @param maxBytes refused above this, before anything is read
 * @throws LatchkeyError LIMIT_EXCEEDED, and what the stream raises
 */
export async function collectBytes(
  stream: AsyncIterable<Uint8Array>,
  descriptor: Descriptor,
  maxBytes: number,
): Promise<Uint8Array> {
  if (descriptor.size > maxBytes) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `${descriptor.digest} is larger than ${maxBytes} bytes`);
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Raises an abort as INTERRUPTED. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) {
    throw new LatchkeyError('INTERRUPTED', 'interrupted', { cause: signal.reason });
  }
}

const DAMAGED_HINT = 'the copy is damaged; delete it and get the image again from where it was built';

export function truncated(descriptor: Descriptor, location: string, sizeBytes: number): LatchkeyError {
  return new LatchkeyError(
    'INPUT_TRUNCATED',
    `${location}: ${descriptor.digest} ends after ${sizeBytes} of ${descriptor.size} bytes`,
    { hint: DAMAGED_HINT },
  );
}

export function tooLong(descriptor: Descriptor, location: string): LatchkeyError {
  return new LatchkeyError(
    'INPUT_DIGEST_MISMATCH',
    `${location}: ${descriptor.digest} is longer than its ${descriptor.size} bytes`,
    { hint: DAMAGED_HINT },
  );
}

export function wrongContent(descriptor: Descriptor, location: string): LatchkeyError {
  return new LatchkeyError(
    'INPUT_DIGEST_MISMATCH',
    `${location}: the content of ${descriptor.digest} does not have that digest`,
    { hint: DAMAGED_HINT },
  );
}

/**
 * A stream in pieces of one size, each under AES-256-GCM with its number and whether it is the last as nonce (STREAM, Hoang,
 * Reyhanitabar, Rogaway, Vizár 2015, as age does it): none can be changed, moved, left out or added. The key is for one
 * stream alone.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { BACKUP_CHUNK_BYTES } from '../limits.ts';

const TAG_BYTES = 16;
const NONCE_BYTES = 12;
const SEALED_CHUNK_BYTES = BACKUP_CHUNK_BYTES + TAG_BYTES;

/** Seals a stream. */
export async function* sealChunks(
  key: Uint8Array,
  plain: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  let number = 0;
  for await (const { bytes, isLast } of piecesOf(plain, BACKUP_CHUNK_BYTES)) {
    const cipher = createCipheriv('aes-256-gcm', key, nonceOf(number, isLast), { authTagLength: TAG_BYTES });
    yield Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
    number += 1;
  }
}

/**
 * Opens a stream. What it gives is genuine, and its end is the end only when it ends without an error.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED for a piece that was changed or moved, INPUT_TRUNCATED for a missing end
 */
export async function* openChunks(
  key: Uint8Array,
  sealed: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  let number = 0;
  for await (const { bytes, isLast } of piecesOf(sealed, SEALED_CHUNK_BYTES)) {
    const plain = openChunk(key, bytes, nonceOf(number, isLast));
    if (plain === null) throw refusal(key, bytes, number, isLast);
    yield plain;
    number += 1;
  }
}

function openChunk(key: Uint8Array, bytes: Uint8Array, nonce: Uint8Array): Uint8Array | null {
  if (bytes.length < TAG_BYTES) return null;
  const end = bytes.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(bytes.subarray(end));
  try {
    return Buffer.concat([decipher.update(bytes.subarray(0, end)), decipher.final()]);
  } catch {
    return null;
  }
}

/** Says what has happened to a piece that does not open. */
function refusal(key: Uint8Array, bytes: Uint8Array, number: number, isLast: boolean): LatchkeyError {
  const opensAs = (wasLast: boolean) => openChunk(key, bytes, nonceOf(number, wasLast)) !== null;
  if (isLast && (bytes.length === 0 || opensAs(false))) {
    return new LatchkeyError('INPUT_TRUNCATED', 'the backup is cut off: its end is missing', {
      hint: 'fetch it again, or take another backup',
    });
  }
  const what =
    !isLast && opensAs(true)
      ? 'something was added behind the end of the backup'
      : `the backup is damaged: piece ${number + 1} was changed, cut or moved`;
  return new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', what, {
    hint: 'fetch it again, or take another backup',
  });
}

function nonceOf(number: number, isLast: boolean): Uint8Array {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUIntBE(number, NONCE_BYTES - 1 - 6, 6);
  nonce[NONCE_BYTES - 1] = isLast ? 1 : 0;
  return nonce;
}

/** The same bytes in pieces of one size; the last one may be shorter, and of nothing is empty. */
async function* piecesOf(
  source: AsyncIterable<Uint8Array>,
  size: number,
): AsyncGenerator<{ readonly bytes: Uint8Array; readonly isLast: boolean }, void, undefined> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  for await (const bytes of source) {
    waiting.push(bytes);
    waitingBytes += bytes.length;
    // One that is full waits for more, for it may be the last.
    if (waitingBytes <= size) continue;
    const joined = Buffer.concat(waiting);
    let from = 0;
    for (; joined.length - from > size; from += size) {
      yield { bytes: joined.subarray(from, from + size), isLast: false };
    }
    waiting = [joined.subarray(from)];
    waitingBytes = joined.length - from;
  }
  yield { bytes: Buffer.concat(waiting), isLast: true };
}

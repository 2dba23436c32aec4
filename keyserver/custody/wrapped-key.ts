/**
 * A key under another key: AES-256-GCM with the purpose as additional data, so that a wrapped key moved to
 * another row does not open. Layout: version 1, nonce (12 bytes), tag (16), ciphertext.
 */
import { type CipherKey, createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';

export const WRAPPING_KEY_BYTES = 32;

const VERSION = 1;
/** Random nonces are safe up to 2^32 keys under one wrapping key (NIST SP 800-38D, 8.3). */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEADER_BYTES = 1 + NONCE_BYTES + TAG_BYTES;

/** Seals a key for one purpose. */
export function wrapKey(wrappingKey: CipherKey, key: Uint8Array, purpose: string): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', wrappingKey, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(purpose));
  const ciphertext = Buffer.concat([cipher.update(key), cipher.final()]);
  return Buffer.concat([Uint8Array.of(VERSION), nonce, cipher.getAuthTag(), ciphertext]);
}

/**
 * Opens a wrapped key.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED for another key, purpose, or changed bytes
 */
export function unwrapKey(wrappingKey: CipherKey, wrapped: Uint8Array, purpose: string): Uint8Array {
  if (wrapped.length < HEADER_BYTES || wrapped[0] !== VERSION) throw notOpened(purpose);
  const nonce = wrapped.subarray(1, 1 + NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', wrappingKey, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(purpose));
  decipher.setAuthTag(wrapped.subarray(1 + NONCE_BYTES, HEADER_BYTES));
  try {
    return Buffer.concat([decipher.update(wrapped.subarray(HEADER_BYTES)), decipher.final()]);
  } catch (error) {
    throw notOpened(purpose, error);
  }
}

function notOpened(purpose: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', `the wrapped key "${purpose}" does not open`, {
    cause,
  });
}

/** How the key providers of tests wrap: nonce, ciphertext and tag of AES-256-GCM, as ocicrypt's own examples do. */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';

const KEY = createHash('sha256').update('the key of this provider').digest();
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export function wrapAsProvider(plaintext: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', KEY, nonce);
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

export function unwrapAsProvider(element: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', KEY, element.subarray(0, NONCE_BYTES));
  decipher.setAuthTag(element.subarray(-TAG_BYTES));
  return Buffer.concat([decipher.update(element.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]);
}

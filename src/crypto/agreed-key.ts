/** The key that two sides of an ECDH-ES+A256KW envelope derive from their shared secret (RFC 7518, 4.6 and appendix C). */
import { createHash } from 'node:crypto';

export const AGREEMENT_ALGORITHM = 'ECDH-ES+A256KW';
export const KEY_BYTES = 32;
/** RFC 3394, 2.2.3.1: the initial value of AES key wrap. */
export const KEY_WRAP_INITIAL_VALUE = Buffer.alloc(8, 0xa6);

/** Concat KDF, one round of SHA-256 (RFC 7518, 4.6.2), without party information. */
export function deriveWrappingKey(secret: Uint8Array): Buffer {
  const algorithm = Buffer.from(AGREEMENT_ALGORITHM);
  return createHash('sha256')
    .update(uint32(1))
    .update(secret)
    .update(uint32(algorithm.length))
    .update(algorithm)
    .update(uint32(0))
    .update(uint32(0))
    .update(uint32(KEY_BYTES * 8))
    .digest();
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

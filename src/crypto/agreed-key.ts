/** The key that two sides of an ECDH-ES+A256KW envelope derive from their shared secret (RFC 7518, 4.6 and appendix C). */
import { hash } from 'node:crypto';

export const AGREEMENT_ALGORITHM = 'ECDH-ES+A256KW';
export const KEY_BYTES = 32;
/** RFC 3394, 2.2.3.1: the initial value of AES key wrap. */
export const KEY_WRAP_INITIAL_VALUE = Buffer.alloc(8, 0xa6);

const FIRST_ROUND = uint32(1);
/** Algorithm, two parties without a name, and the length of the key in bits. */
const OTHER_INFO = Buffer.concat([
  uint32(AGREEMENT_ALGORITHM.length),
  Buffer.from(AGREEMENT_ALGORITHM),
  ...[uint32(0), uint32(0), uint32(KEY_BYTES * 8)],
]);

/** Concat KDF, one round of SHA-256 (RFC 7518, 4.6.2), without party information. */
export function deriveWrappingKey(secret: Uint8Array): Buffer {
  return hash('sha256', Buffer.concat([FIRST_ROUND, secret, OTHER_INFO]), 'buffer');
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

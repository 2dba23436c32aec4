/**
 * Join tokens: what a machine is enrolled with so that the license key need not be on it. `lkj_` and 256 random bits;
 * each has a number of uses and an end. The server keeps a digest.
 */
import { createHash } from 'node:crypto';

export const JOIN_TOKEN_BYTES = 32;
const PREFIX = 'lkj_';

/** Spells a token from random bytes. */
export function formatJoinToken(random: Uint8Array): string {
  if (random.length !== JOIN_TOKEN_BYTES) throw new TypeError(`a join token is ${JOIN_TOKEN_BYTES} bytes`);
  return PREFIX + Buffer.from(random).toString('base64url');
}

/** True for what can only be a join token; a license key never begins like this. */
export function isJoinToken(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** SHA-256: 256 random bits need no slow hash. */
export function joinTokenDigest(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

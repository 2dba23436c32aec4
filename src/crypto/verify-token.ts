/** One compact JWS (RFC 7515), in the one spelling that its signer gave it. */
import type { KeyObject } from 'node:crypto';
import { type CryptoKey, compactVerify } from 'jose';

/** EdDSA of RFC 8037, and its name since RFC 9864. */
export const ED25519_ALGORITHMS: readonly string[] = ['EdDSA', 'Ed25519'];

export interface TokenExpectation {
  readonly key: KeyObject | CryptoKey | Uint8Array;
  readonly algorithms: readonly string[];
  /** Its `typ`. */
  readonly type: string;
}

/**
 * Gives the payload. The last character of a base64url text has bits that say nothing: without the look at its spelling
 * one signature could be written in several ways, and what is kept by its text or its hash would count them as different.
 * @throws Error when the token is malformed, spelled otherwise than an encoder does, of another type, or not signed with
 *   the key
 */
export async function verifyToken(
  token: string,
  { key, algorithms, type }: TokenExpectation,
): Promise<Uint8Array> {
  if (token.split('.').some((part) => Buffer.from(part, 'base64url').toString('base64url') !== part)) {
    throw new TypeError('the token is not spelled as its signer does');
  }
  const { payload, protectedHeader } = await compactVerify(token, key, { algorithms: [...algorithms] });
  if (protectedHeader.typ !== type) throw new TypeError('the token is of another type');
  return payload;
}

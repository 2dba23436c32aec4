/** Content digests (OCI image spec, descriptor.md "Digests"). Only sha256 is accepted: every peer writes it. */
import { createHash } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';

declare const digestBrand: unique symbol;

/** `sha256:` and 64 lower-case hex digits. */
export type Digest = string & { readonly [digestBrand]: true };

const DIGEST_PATTERN = /^sha256:[0-9a-f]{64}$/;

/** True for a well-formed sha256 digest. */
export function isDigest(value: unknown): value is Digest {
  return typeof value === 'string' && DIGEST_PATTERN.test(value);
}

/**
 * Parses a digest.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function parseDigest(value: unknown): Digest {
  if (isDigest(value)) return value;
  const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 100)) : typeof value;
  throw new LatchkeyError('INPUT_MALFORMED', `not a sha256 digest: ${shown}`);
}

/** Digest of bytes that are already in memory. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return digestFromHex(createHash('sha256').update(bytes).digest('hex'));
}

/** Digest from the 64 hex digits that a hash object gave. */
export function digestFromHex(hex: string): Digest {
  return parseDigest(`sha256:${hex}`);
}

/** The hex part, as file names in an OCI layout use it. */
export function digestHex(digest: Digest): string {
  return digest.slice('sha256:'.length);
}

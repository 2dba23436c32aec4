/** RFC 7638 thumbprint of a public key at once: `jose` goes to Node's thread pool for it, for longer than it takes (measured). */
import { type KeyObject, createHash } from 'node:crypto';

/** @param publicKey on an elliptic curve, as the keys of nodes are */
export function keyThumbprint(publicKey: KeyObject): string {
  const { crv, kty, x, y } = publicKey.export({ format: 'jwk' });
  // The required members alone, in the order of their names.
  return createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url');
}

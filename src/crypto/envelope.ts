/**
 * A small secret sealed to one public key: compact JWE (RFC 7516), ECDH-ES+A256KW and A256GCM. The image key goes
 * to the key server this way, and from there to a node. The purpose is the authenticated `typ` header, so that an
 * envelope made for one use is refused in another. What it is about is the `sub` header (RFC 7519 section 5.3), so that
 * who finds an envelope cannot have its secret registered as that of something else.
 */
import type { KeyObject } from 'node:crypto';
import type { CryptoKey, JWK } from 'jose';
import { JWEInvalid } from 'jose/errors';
import { compactDecrypt } from 'jose/jwe/compact/decrypt';
import { CompactEncrypt } from 'jose/jwe/compact/encrypt';
import { LatchkeyError } from '#src/base/errors.ts';

const KEY_ALGORITHM = 'ECDH-ES+A256KW';
const CONTENT_ALGORITHM = 'A256GCM';

/** What is inside an envelope and for whom. */
export type EnvelopePurpose =
  /** An image key on its way from the release pipeline to the key server. */
  | 'latchkey-image-key-import'
  /** A layer's private options on their way to the key server, which wraps them under an image key of its own. */
  | 'latchkey-layer-options-import'
  /** An image key on its way from the key server to a node. */
  | 'latchkey-image-key-lease';

export type EnvelopeKey = KeyObject | CryptoKey | JWK;

/**
 * Seals a secret.
 * @param publicKey EC key on P-256, P-384 or P-521
 * @param subject what the secret is for, such as the id of an image key; it can be read by anybody
 * @throws LatchkeyError KEY_INVALID
 */
export async function sealEnvelope(
  secret: Uint8Array,
  publicKey: EnvelopeKey,
  purpose: EnvelopePurpose,
  subject?: string,
): Promise<string> {
  const bound = subject === undefined ? {} : { sub: subject };
  try {
    return await new CompactEncrypt(secret)
      .setProtectedHeader({ alg: KEY_ALGORITHM, enc: CONTENT_ALGORITHM, typ: purpose, ...bound })
      .encrypt(publicKey);
  } catch (error) {
    throw new LatchkeyError('KEY_INVALID', 'the public key to seal to is not a usable EC key', {
      cause: error,
    });
  }
}

/**
 * Opens an envelope.
 * @param subject as it was sealed
 * @throws LatchkeyError INPUT_MALFORMED, CRYPTO_AUTHENTICATION_FAILED for another key, purpose, subject or changed bytes
 */
export async function openEnvelope(
  envelope: string,
  privateKey: EnvelopeKey,
  purpose: EnvelopePurpose,
  subject?: string,
): Promise<Uint8Array> {
  try {
    const { plaintext, protectedHeader } = await compactDecrypt(envelope, privateKey, {
      keyManagementAlgorithms: [KEY_ALGORITHM],
      contentEncryptionAlgorithms: [CONTENT_ALGORITHM],
    });
    const { typ, sub, zip } = protectedHeader;
    if (typ === purpose && sub === subject && zip === undefined) return plaintext;
  } catch (error) {
    if (error instanceof JWEInvalid) {
      throw new LatchkeyError('INPUT_MALFORMED', 'the sealed key is not a compact JWE', { cause: error });
    }
    throw new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', 'the sealed key does not open with this key', {
      cause: error,
    });
  }
  const use = subject === undefined ? purpose : `${purpose} of ${JSON.stringify(subject)}`;
  throw new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', `the sealed key was not made for ${use}`);
}

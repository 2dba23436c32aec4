/**
 * A small secret sealed to one public key: compact JWE (RFC 7516), ECDH-ES+A256KW and A256GCM. The image key goes
 * to the key server this way, and from there to a node. The purpose is the authenticated `typ` header, so that an
 * envelope made for one use is refused in another.
 */
import type { KeyObject } from 'node:crypto';
import { CompactEncrypt, type CryptoKey, type JWK, compactDecrypt, errors } from 'jose';
import { LatchkeyError } from '#src/base/errors.ts';

const KEY_ALGORITHM = 'ECDH-ES+A256KW';
const CONTENT_ALGORITHM = 'A256GCM';

/** What is inside an envelope and for whom. */
export type EnvelopePurpose =
  /** An image key on its way from the release pipeline to the key server. */
  | 'latchkey-image-key-import'
  /** An image key on its way from the key server to a node. */
  | 'latchkey-image-key-lease';

export type EnvelopeKey = KeyObject | CryptoKey | JWK;

/**
 * Seals a secret.
 * @param publicKey EC key on P-256, P-384 or P-521
 * @throws LatchkeyError KEY_INVALID
 */
export async function sealEnvelope(
  secret: Uint8Array,
  publicKey: EnvelopeKey,
  purpose: EnvelopePurpose,
): Promise<string> {
  try {
    return await new CompactEncrypt(secret)
      .setProtectedHeader({ alg: KEY_ALGORITHM, enc: CONTENT_ALGORITHM, typ: purpose })
      .encrypt(publicKey);
  } catch (error) {
    throw new LatchkeyError('KEY_INVALID', 'the public key to seal to is not a usable EC key', {
      cause: error,
    });
  }
}

/**
 * Opens an envelope.
 * @throws LatchkeyError INPUT_MALFORMED, CRYPTO_AUTHENTICATION_FAILED for another key, purpose or changed bytes
 */
export async function openEnvelope(
  envelope: string,
  privateKey: EnvelopeKey,
  purpose: EnvelopePurpose,
): Promise<Uint8Array> {
  try {
    const { plaintext, protectedHeader } = await compactDecrypt(envelope, privateKey, {
      keyManagementAlgorithms: [KEY_ALGORITHM],
      contentEncryptionAlgorithms: [CONTENT_ALGORITHM],
    });
    if (protectedHeader.typ === purpose && protectedHeader.zip === undefined) return plaintext;
  } catch (error) {
    if (error instanceof errors.JWEInvalid) {
      throw new LatchkeyError('INPUT_MALFORMED', 'the sealed key is not a compact JWE', { cause: error });
    }
    throw new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', 'the sealed key does not open with this key', {
      cause: error,
    });
  }
  throw new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', `the sealed key was not made for ${purpose}`);
}

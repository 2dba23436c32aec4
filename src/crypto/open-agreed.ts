/**
 * Opens an envelope (envelope.ts) with a key that can agree on a secret and need do no more, such as one on a token: compact
 * JWE, ECDH-ES+A256KW with A256GCM on P-256, exactly as seal-key.ts writes it. What has anything else in its header is
 * refused.
 */
import { type KeyObject, createDecipheriv, createPublicKey } from 'node:crypto';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { AGREEMENT_ALGORITHM, KEY_WRAP_INITIAL_VALUE, deriveWrappingKey } from './agreed-key.ts';
import type { EnvelopePurpose } from './envelope.ts';

/** Gives the ECDH secret of its own key and another on P-256. */
export type Agreement = (publicKey: KeyObject) => Promise<Uint8Array>;

const PART = /^[A-Za-z0-9_-]+$/;
const PARTS = 5;
/** An image key in an envelope has some 500 characters. */
const MAX_CHARACTERS = 8192;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** A content key of 32 bytes, wrapped (RFC 3394). */
const WRAPPED_KEY_BYTES = 40;

const headerSchema = z.strictObject({
  alg: z.literal(AGREEMENT_ALGORITHM),
  enc: z.literal('A256GCM'),
  typ: z.string(),
  epk: z.strictObject({ kty: z.literal('EC'), crv: z.literal('P-256'), x: z.string(), y: z.string() }),
});

/**
 * Opens an envelope.
 * @throws LatchkeyError INPUT_MALFORMED; CRYPTO_AUTHENTICATION_FAILED for another key, curve, purpose or changed bytes;
 *   and what the agreement throws
 */
export async function openByAgreement(
  envelope: string,
  agree: Agreement,
  purpose: EnvelopePurpose,
): Promise<Buffer> {
  const parts = envelope.length > MAX_CHARACTERS ? [] : envelope.split('.');
  const [header = '', ...rest] = parts;
  if (parts.length !== PARTS || !parts.every((part) => PART.test(part))) throw malformed();
  const [wrapped, nonce, ciphertext, tag] = rest.map((part) => Buffer.from(part, 'base64url'));
  if (
    wrapped?.length !== WRAPPED_KEY_BYTES ||
    nonce?.length !== NONCE_BYTES ||
    ciphertext === undefined ||
    tag?.length !== TAG_BYTES
  )
    throw malformed();
  const { typ, ephemeral } = readHeader(header);
  if (typ !== purpose) {
    throw new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', `the sealed key was not made for ${purpose}`);
  }
  const secret = await agree(ephemeral);
  try {
    const unwrap = createDecipheriv('id-aes256-wrap', deriveWrappingKey(secret), KEY_WRAP_INITIAL_VALUE);
    const contentKey = Buffer.concat([unwrap.update(wrapped), unwrap.final()]);
    const decipher = createDecipheriv('aes-256-gcm', contentKey, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(Buffer.from(header)).setAuthTag(tag);
    return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
  } catch (error) {
    throw doesNotOpen(error);
  }
}

function readHeader(text: string): { typ: string; ephemeral: KeyObject } {
  let parsed;
  try {
    parsed = headerSchema.parse(JSON.parse(Buffer.from(text, 'base64url').toString()));
  } catch (error) {
    throw malformed(error);
  }
  try {
    // OpenSSL refuses a point that is not on the curve, so no agreement is made with one.
    return { typ: parsed.typ, ephemeral: createPublicKey({ key: parsed.epk, format: 'jwk' }) };
  } catch (error) {
    throw doesNotOpen(error);
  }
}

function malformed(cause?: unknown): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', 'the sealed key is not an envelope of the key server', {
    cause,
  });
}

function doesNotOpen(cause: unknown): LatchkeyError {
  return new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', 'the sealed key does not open with this key', {
    cause,
  });
}

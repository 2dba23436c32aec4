/** Keys that sign release statements: Ed25519, or ECDSA on P-256. PEM or JWK, as `latchkey keygen` and OpenSSL write them. */
import { type KeyObject, createHash, createPrivateKey, createPublicKey } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { canonicalJson, parseJson } from '#src/base/json.ts';

/**
 * Reads a private signing key that is not protected by a passphrase.
 * @param what the file's name, for messages
 * @throws LatchkeyError KEY_INVALID
 */
export function parseSigningKey(bytes: Uint8Array, what: string): KeyObject {
  const text = Buffer.from(bytes).toString('latin1').trim();
  if (text.includes('ENCRYPTED')) {
    throw new LatchkeyError('KEY_INVALID', `${what} is protected by a passphrase`, {
      hint: 'write it without one first: openssl pkey -in FILE -out PLAIN_FILE',
    });
  }
  return requireSigningKey(
    readKey(what, 'private', () =>
      createPrivateKey(text.startsWith('{') ? { key: jwkOf(text, what), format: 'jwk' } : text),
    ),
    what,
  );
}

/**
 * Reads a public key that verifies signatures; a private one is refused, it has no place where keys are verified.
 * @param what the file's name, for messages
 * @throws LatchkeyError KEY_INVALID
 */
export function parseVerificationKey(bytes: Uint8Array, what: string): KeyObject {
  const text = Buffer.from(bytes).toString('latin1').trim();
  if (text.includes('PRIVATE KEY-----') || (text.startsWith('{') && 'd' in jwkOf(text, what))) {
    throw new LatchkeyError('KEY_INVALID', `${what} is a private key where a public one is needed`, {
      hint: 'give the public key; the private one stays with its owner',
    });
  }
  return requireSigningKey(
    readKey(what, 'public', () =>
      createPublicKey(text.startsWith('{') ? { key: jwkOf(text, what), format: 'jwk' } : text),
    ),
    what,
  );
}

/**
 * Gives the key back when it can sign statements.
 * @throws LatchkeyError KEY_INVALID
 */
export function requireSigningKey(key: KeyObject, what: string): KeyObject {
  if (key.asymmetricKeyType === 'ed25519') return key;
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (key.asymmetricKeyType === 'ec' && curve === 'prime256v1') return key;
  const type = curve ?? key.asymmetricKeyType ?? 'secret';
  throw new LatchkeyError('KEY_INVALID', `${what} is a key of type ${type}, which signs no statements here`, {
    hint: 'use an Ed25519 or P-256 key: latchkey keygen NAME --type ed25519',
  });
}

/** The JWK thumbprint of a key pair (RFC 7638, and RFC 8037 section 2 for Ed25519), base64url. */
export function keyThumbprint(key: KeyObject): string {
  const { kty, crv, x, y } = key.export({ format: 'jwk' });
  return createHash('sha256').update(canonicalJson({ kty, crv, x, y })).digest('base64url');
}

function jwkOf(text: string, what: string): Record<string, string> {
  let value: unknown;
  try {
    value = parseJson(text, what);
  } catch (error) {
    throw notAKey(what, 'signing', error);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, string>;
  }
  throw notAKey(what, 'signing', undefined);
}

function readKey(what: string, kind: string, read: () => KeyObject): KeyObject {
  try {
    return read();
  } catch (error) {
    throw error instanceof LatchkeyError ? error : notAKey(what, kind, error);
  }
}

function notAKey(what: string, kind: string, cause: unknown): LatchkeyError {
  return new LatchkeyError('KEY_INVALID', `${what} is not a ${kind} key`, {
    hint: 'accepted are PEM and JWK; `latchkey keygen NAME --type ed25519` makes a pair',
    cause,
  });
}

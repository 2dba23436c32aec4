/**
 * Key files as people have them: PEM (SPKI, PKCS#8, PKCS#1, SEC1, certificates), DER of the same, JWK. Parsed to
 * Node's key objects and checked for what our key wrapping can use.
 */
import {
  type JsonWebKeyInput,
  type KeyObject,
  X509Certificate,
  createPrivateKey,
  createPublicKey,
} from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';

/** NIST SP 800-131A: shorter RSA keys are not acceptable. */
const MIN_RSA_BITS = 2048;
/** The curves of JWA (RFC 7518 section 6.2.1.1) under their OpenSSL names. */
const CURVES: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1']);

/**
 * Reads a public key or a certificate.
 * @param bytes content of the file
 * @param what the file's name, for messages
 * @throws LatchkeyError KEY_INVALID
 */
export function parsePublicKey(bytes: Uint8Array, what: string): KeyObject {
  const text = textOf(bytes);
  if (text?.includes('PRIVATE KEY-----') === true || isPrivateJwk(text)) {
    throw new LatchkeyError('KEY_INVALID', `${what} is a private key where a public one is needed`, {
      hint: 'give the public key; the private one stays with its owner',
    });
  }
  const der = Buffer.from(bytes);
  const candidates: (() => KeyObject)[] =
    text === undefined
      ? [
          () => createPublicKey({ key: der, format: 'der', type: 'spki' }),
          () => createPublicKey({ key: der, format: 'der', type: 'pkcs1' }),
          () => new X509Certificate(der).publicKey,
        ]
      : [() => createPublicKey(text.startsWith('{') ? jwkInput(text, what) : text)];
  return checkUsable(firstThatReads(candidates, `${what} is not a public key`), what);
}

/**
 * Reads a private key that is not protected by a passphrase.
 * @throws LatchkeyError KEY_INVALID
 */
export function parsePrivateKey(bytes: Uint8Array, what: string): KeyObject {
  const text = textOf(bytes);
  if (text?.startsWith('{') === false && text.includes('ENCRYPTED')) {
    throw new LatchkeyError('KEY_INVALID', `${what} is protected by a passphrase`, {
      hint: 'write it without one first: openssl pkey -in FILE -out PLAIN_FILE',
    });
  }
  if (text?.includes('PUBLIC KEY-----') === true || text?.includes('CERTIFICATE-----') === true) {
    throw new LatchkeyError('KEY_INVALID', `${what} is a public key where the private one is needed`);
  }
  const der = Buffer.from(bytes);
  const candidates: (() => KeyObject)[] =
    text === undefined
      ? (['pkcs8', 'pkcs1', 'sec1'] as const).map(
          (type) => () => createPrivateKey({ key: der, format: 'der', type }),
        )
      : [() => createPrivateKey(text.startsWith('{') ? jwkInput(text, what) : text)];
  return checkUsable(firstThatReads(candidates, `${what} is not a private key`), what);
}

/** PEM and JWK are text that starts with a dash or a brace (after blanks and PEM's free text); DER starts with 0x30. */
function textOf(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes).toString('latin1').trim();
  return text.startsWith('{') || text.includes('-----BEGIN ') ? text : undefined;
}

function isPrivateJwk(text: string | undefined): boolean {
  return text?.startsWith('{') === true && /"d"\s*:/.test(text);
}

function jwkInput(text: string, what: string): JsonWebKeyInput {
  const value = parseJson(text, what);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LatchkeyError('KEY_INVALID', `${what} is not a JWK`);
  }
  return { key: value, format: 'jwk' };
}

function firstThatReads(candidates: readonly (() => KeyObject)[], message: string): KeyObject {
  let lastError: unknown;
  for (const candidate of candidates) {
    try {
      return candidate();
    } catch (error) {
      lastError = error;
    }
  }
  throw new LatchkeyError('KEY_INVALID', message, {
    hint: 'accepted are PEM (SPKI, PKCS#8, PKCS#1, SEC1), DER and JWK; `latchkey keygen` makes a pair',
    cause: lastError,
  });
}

function checkUsable(key: KeyObject, what: string): KeyObject {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa':
      if (modulusLength !== undefined && modulusLength >= MIN_RSA_BITS) return key;
      throw new LatchkeyError('KEY_INVALID', `${what} is an RSA key of ${modulusLength ?? 0} bits`, {
        hint: `use at least ${MIN_RSA_BITS} bits`,
      });
    case 'ec':
      if (namedCurve !== undefined && CURVES.has(namedCurve)) return key;
      throw new LatchkeyError('KEY_INVALID', `${what} is on the curve ${namedCurve ?? 'unknown'}`, {
        hint: 'use P-256, P-384 or P-521',
      });
    default:
      throw new LatchkeyError('KEY_INVALID', `${what} is a ${key.asymmetricKeyType ?? 'secret'} key`, {
        hint: 'use an EC or RSA key',
      });
  }
}

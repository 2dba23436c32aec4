/**
 * Key files as people have them: PEM (SPKI, PKCS#8, PKCS#1, SEC1, certificates), DER of the same, JWK; private keys
 * also protected by a password (PKCS#8, and the older PEM with a DEK-Info line). Parsed to Node's key objects and
 * checked for what our key wrapping can use.
 */
import {
  type JsonWebKeyInput,
  type KeyObject,
  X509Certificate,
  createPrivateKey,
  createPublicKey,
} from 'node:crypto';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';

/** NIST SP 800-131A: shorter RSA keys are not acceptable. */
export const MIN_RSA_BITS = 2048;
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
 * Reads a private key, of PEM the first one in the file.
 * @param password opens a protected key; of no effect on others
 * @throws LatchkeyError KEY_INVALID; its message and causes never hold the password
 */
export function parsePrivateKey(bytes: Uint8Array, what: string, password?: string): KeyObject {
  const text = textOf(bytes);
  if (text !== undefined && !isPrivate(text)) {
    throw new LatchkeyError('KEY_INVALID', `${what} is a public key where the private one is needed`, {
      hint: 'give the private key that it was made with',
    });
  }
  if (password === undefined && isProtected(bytes, text)) {
    throw new LatchkeyError('KEY_INVALID', `${what} is protected by a password`, {
      hint: 'give the password after the file: FILE:file=PASSWORD_FILE or FILE:fd=NUMBER',
    });
  }
  // An absent password must be absent: undefined would be taken for one.
  const passphrase = password === undefined ? {} : { passphrase: password };
  const der = Buffer.from(bytes);
  const candidates: (() => KeyObject)[] =
    text === undefined
      ? (['pkcs8', 'pkcs1', 'sec1'] as const).map(
          (type) => () => createPrivateKey({ key: der, format: 'der', type, ...passphrase }),
        )
      : [() => createPrivateKey(text.startsWith('{') ? jwkInput(text, what) : { key: text, ...passphrase })];
  const key = isProtected(bytes, text)
    ? firstThatReads(
        candidates,
        `${what} does not open with this password`,
        'is it the password of this file?',
      )
    : firstThatReads(candidates, `${what} is not a private key`);
  return checkUsable(key, what);
}

/**
 * Reads the certificates of a file, PEM (all of them) or DER.
 * @returns none when the file holds none
 */
export function parseCertificates(bytes: Uint8Array): X509Certificate[] {
  const blocks = textOf(bytes)?.match(CERTIFICATE_BLOCK) ?? [Buffer.from(bytes)];
  return blocks.flatMap((block) => {
    try {
      return [new X509Certificate(block)];
    } catch {
      return [];
    }
  });
}

/** The `alg` of a JWK (RFC 7517 section 4.4); undefined when it has none, or the file is of another kind. */
export function jwkAlgorithm(bytes: Uint8Array, what: string): string | undefined {
  const text = textOf(bytes);
  if (text?.startsWith('{') !== true) return undefined;
  const { alg } = jwkInput(text, what).key;
  if (alg === undefined || typeof alg === 'string') return alg;
  throw new LatchkeyError('KEY_INVALID', `${what} has an "alg" that is not text`, {
    hint: 'leave "alg" out',
  });
}

const CERTIFICATE_BLOCK = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

function isPrivate(text: string): boolean {
  return text.startsWith('{') || /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text);
}

function isProtected(bytes: Uint8Array, text: string | undefined): boolean {
  if (text !== undefined) {
    return !text.startsWith('{') && /BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED/.test(text);
  }
  try {
    createPrivateKey({ key: Buffer.from(bytes), format: 'der', type: 'pkcs8' });
    return false;
  } catch (error) {
    return systemErrorCode(error) === 'ERR_MISSING_PASSPHRASE';
  }
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
    throw new LatchkeyError('KEY_INVALID', `${what} is not a JWK`, { hint: ACCEPTED_FORMS });
  }
  return { key: value, format: 'jwk' };
}

const ACCEPTED_FORMS =
  'accepted are PEM (SPKI, PKCS#8, PKCS#1, SEC1), DER and JWK; `latchkey keygen` makes a pair';

function firstThatReads(
  candidates: readonly (() => KeyObject)[],
  message: string,
  hint = ACCEPTED_FORMS,
): KeyObject {
  let lastError: unknown;
  for (const candidate of candidates) {
    try {
      return candidate();
    } catch (error) {
      lastError = error;
    }
  }
  throw new LatchkeyError('KEY_INVALID', message, { hint, cause: lastError });
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
      throw new LatchkeyError(
        'KEY_INVALID',
        `${what} is a key of type ${key.asymmetricKeyType ?? 'secret'}`,
        {
          hint: 'use an EC or RSA key',
        },
      );
  }
}

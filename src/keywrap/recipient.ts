/**
 * Recipients and keys as people write them (ocicrypt helpers/parse_helpers.go), without touching a file:
 * `jwe:FILE | pkcs7:CERTIFICATE | pgp:NAME | pkcs11:FILE | provider:NAME[:PARAMETER]` to encrypt, and
 * `FILE[:PASSWORD] | pkcs11:URI | provider:NAME[:PARAMETER]` to decrypt.
 */
import { LatchkeyError } from '#src/base/errors.ts';

/** A key provider that the user's own configuration names. */
export interface ProviderArgument {
  readonly scheme: 'provider';
  readonly name: string;
  /** Handed to the provider as it is. */
  readonly parameter: string;
}

export interface FileRecipient {
  readonly scheme: 'jwe' | 'pkcs7' | 'pkcs11';
  readonly path: string;
}

/** A name or mail address in the user's keyring, or a file with an exported public key. */
export interface PgpRecipient {
  readonly scheme: 'pgp';
  readonly name: string;
}

export type RecipientArgument = FileRecipient | PgpRecipient | ProviderArgument;

/** Where the password of a key file comes from. */
export type PasswordSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'descriptor'; readonly descriptor: number }
  /** Stood on the command line, where other users of the machine can read it. */
  | { readonly kind: 'text'; readonly text: string };

export interface FileKey {
  readonly scheme: 'file';
  readonly path: string;
  readonly password: PasswordSource | undefined;
}

/** A key on a PKCS#11 token, named on the command line (RFC 7512). */
export interface TokenKey {
  readonly scheme: 'pkcs11';
  readonly uri: string;
}

export type KeyArgument = FileKey | TokenKey | ProviderArgument;

/** What a provider without a parameter is given; peers send the same. */
const DEFAULT_PROVIDER_PARAMETER = 'Enabled';
const RECIPIENT_FORMS = 'jwe:FILE, pkcs7:CERTIFICATE, pgp:NAME, pkcs11:FILE or provider:NAME[:PARAMETER]';

/**
 * Reads what follows `--recipient`.
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseRecipient(text: string): RecipientArgument {
  const [scheme, value] = splitAtColon(text);
  if (value === undefined || value === '' || hasControlCharacters(text)) throw notARecipient(text);
  switch (scheme) {
    case 'jwe':
    case 'pkcs7':
    case 'pkcs11':
      return { scheme, path: value };
    case 'pgp':
      return { scheme, name: value };
    case 'provider':
      return parseProvider(value);
    default:
      throw notARecipient(text);
  }
}

function notARecipient(text: string): LatchkeyError {
  return new LatchkeyError('USAGE_INVALID', `${JSON.stringify(text)} is not a recipient`, {
    hint: `write ${RECIPIENT_FORMS}`,
  });
}

/** How recipients are written; a private key is not. */
const RECIPIENT_PREFIXES: ReadonlySet<string> = new Set(['jwe', 'pkcs7', 'pgp']);

/**
 * Reads what follows `--key`. The text may hold a password, so no message repeats it.
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseKeyArgument(text: string): KeyArgument {
  const [path, rest] = splitAtColon(text);
  if (path === '' || text.includes('\0')) {
    throw new LatchkeyError('USAGE_INVALID', '--key needs the file of a private key', {
      hint: 'write FILE, FILE:file=PASSWORD_FILE, FILE:fd=NUMBER, pkcs11:URI or provider:NAME[:PARAMETER]',
    });
  }
  if (path === 'provider' && rest !== undefined) return parseProvider(rest);
  if (path === 'pkcs11' && rest !== undefined) return { scheme: 'pkcs11', uri: text };
  if (RECIPIENT_PREFIXES.has(path) && rest !== undefined) {
    // Taken for a password otherwise.
    throw new LatchkeyError('USAGE_INVALID', `--key takes the file itself, without ${path}:`, {
      hint:
        path === 'pgp'
          ? 'export the secret key: gpg --export-secret-keys --output FILE NAME'
          : 'the kind of key is seen in the file',
    });
  }
  return { scheme: 'file', path, password: rest === undefined ? undefined : parsePassword(rest) };
}

/** Providers are named by the user's configuration; the first colon ends the name. */
function parseProvider(text: string): ProviderArgument {
  const [name, parameter] = splitAtColon(text);
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(name)) {
    return { scheme: 'provider', name, parameter: parameter ?? DEFAULT_PROVIDER_PARAMETER };
  }
  throw new LatchkeyError('USAGE_INVALID', `${JSON.stringify(name)} is not the name of a key provider`, {
    hint: 'write provider:NAME or provider:NAME:PARAMETER, with a NAME of the key provider configuration',
  });
}

function parsePassword(text: string): PasswordSource {
  if (text.startsWith('file=')) return { kind: 'file', path: text.slice('file='.length) };
  if (text.startsWith('pass=')) return { kind: 'text', text: text.slice('pass='.length) };
  if (!text.startsWith('fd=')) return { kind: 'text', text };
  const digits = text.slice('fd='.length);
  if (/^\d{1,6}$/.test(digits)) return { kind: 'descriptor', descriptor: Number(digits) };
  throw new LatchkeyError('USAGE_INVALID', 'the password after fd= needs the number of an open file', {
    hint: 'for example: --key key.pem:fd=3 3<password.txt',
  });
}

function splitAtColon(text: string): readonly [before: string, after: string | undefined] {
  const colon = text.indexOf(':');
  return colon === -1 ? [text, undefined] : [text.slice(0, colon), text.slice(colon + 1)];
}

function hasControlCharacters(text: string): boolean {
  return /\p{Cc}/u.test(text);
}

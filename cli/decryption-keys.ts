/** What opens an image: the keys that follow `--key`, told apart by what is in their files. */
import type { X509Certificate } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { keyFileContents } from '#src/crypto/key-file-contents.ts';
import { parseCertificates, parsePrivateKey } from '#src/crypto/key-file.ts';
import { createJweUnwrapper } from '#src/keywrap/jwe.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import {
  type FileKey,
  type PasswordSource,
  type ProviderArgument,
  parseKeyArgument,
} from '#src/keywrap/recipient.ts';
import type { CommandContext } from './context.ts';
import { providerUnwrappers } from './key-providers.ts';
import { readKeyFile, readPassword } from './key-source.ts';
import type { Output } from './output.ts';

/** Keys as they come from files, before a certificate has met its private key. */
interface FoundKeys {
  readonly unwrappers: readonly KeyUnwrapper[];
  readonly privateKeys: readonly {
    readonly path: string;
    readonly key: ReturnType<typeof parsePrivateKey>;
  }[];
  readonly certificates: readonly { readonly path: string; readonly certificate: X509Certificate }[];
}

const NOTHING: FoundKeys = { unwrappers: [], privateKeys: [], certificates: [] };

/**
 * Reads keys.
 * @param texts what followed each `--key`
 * @returns one or more unwrappers for each key
 * @throws LatchkeyError USAGE_INVALID, KEY_INVALID, STATE_NOT_FOUND; none holds a password
 */
export async function readDecryptionKeys(
  context: CommandContext,
  output: Output,
  texts: readonly string[],
): Promise<readonly KeyUnwrapper[]> {
  const found: FoundKeys[] = [];
  const providers: ProviderArgument[] = [];
  for (const argument of texts.map(parseKeyArgument)) {
    switch (argument.scheme) {
      case 'file':
        warnOfVisiblePassword(output, argument.password);
        found.push(await readFile(context, argument));
        break;
      case 'pkcs11': {
        const { openTokenUri } = await import('./token-keys.ts');
        if (argument.uri.includes('pin-value=')) output.note(VISIBLE_SECRET);
        found.push({ ...NOTHING, unwrappers: [await openTokenUri(context, argument.uri)] });
        break;
      }
      case 'provider':
        providers.push(argument);
        break;
    }
  }
  return [
    ...found.flatMap(({ unwrappers }) => unwrappers),
    ...(await openCertificates(
      found.flatMap(({ privateKeys }) => privateKeys),
      found.flatMap(({ certificates }) => certificates),
    )),
    // Last, because each question may take long.
    ...(await providerUnwrappers(context, providers)),
  ];
}

const VISIBLE_SECRET =
  'note: other users of this machine can read a password on the command line; FILE:file=PASSWORD_FILE hides it';

function warnOfVisiblePassword(output: Output, password: PasswordSource | undefined): void {
  if (password?.kind === 'text') output.note(VISIBLE_SECRET);
}

async function readFile(context: CommandContext, { path, password }: FileKey): Promise<FoundKeys> {
  const bytes = await readKeyFile(path);
  const secret = password === undefined ? undefined : await readPassword(password);
  switch (keyFileContents(bytes)) {
    case 'pgp': {
      const [{ createPgpUnwrapper }, { parsePgpPrivateKeys }] = await Promise.all([
        import('#src/keywrap/pgp.ts'),
        import('#src/keywrap/pgp-keys.ts'),
      ]);
      const keys = await parsePgpPrivateKeys(bytes, path, secret);
      return { ...NOTHING, unwrappers: [createPgpUnwrapper(keys)] };
    }
    case 'pkcs11': {
      const { openTokenFile } = await import('./token-keys.ts');
      return { ...NOTHING, unwrappers: [await openTokenFile(context, bytes, path)] };
    }
    case 'certificate':
      // What follows the first certificate are those of its issuers.
      return { ...NOTHING, certificates: certificatesIn(bytes, path).slice(0, 1) };
    case 'key': {
      const key = parsePrivateKey(bytes, path, secret);
      return {
        unwrappers: [createJweUnwrapper(key)],
        privateKeys: [{ path, key }],
        certificates: certificatesIn(bytes, path).filter(({ certificate }) =>
          certificate.checkPrivateKey(key),
        ),
      };
    }
  }
}

function certificatesIn(bytes: Uint8Array, path: string): FoundKeys['certificates'] {
  return parseCertificates(bytes).map((certificate) => ({ path, certificate }));
}

/** A pkcs7 recipient is found by its certificate and opened with its private key (RFC 5652 section 6.2.1). */
async function openCertificates(
  privateKeys: FoundKeys['privateKeys'],
  certificates: FoundKeys['certificates'],
): Promise<KeyUnwrapper[]> {
  if (certificates.length === 0) return [];
  const { createPkcs7Unwrapper } = await import('#src/keywrap/pkcs7.ts');
  return certificates.map(({ path, certificate }) => {
    const pair = privateKeys.find(({ key }) => certificate.checkPrivateKey(key));
    if (pair !== undefined) return createPkcs7Unwrapper(certificate, pair.key);
    throw new LatchkeyError('USAGE_INVALID', `no private key was given for the certificate ${path}`, {
      hint: 'a pkcs7 recipient needs both: --key PRIVATE_KEY --key CERTIFICATE',
    });
  });
}

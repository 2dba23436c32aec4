/** Who can decrypt an image: what follows `--recipient`, read from files, keyrings and tokens. */
import { type X509Certificate, createHash } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { jwkAlgorithm, parseCertificates, parsePublicKey } from '#src/crypto/key-file.ts';
import type { JweRecipient } from '#src/keywrap/jwe.ts';
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import {
  type FileRecipient,
  type PgpRecipient,
  type ProviderArgument,
  type RecipientArgument,
  parseRecipient,
} from '#src/keywrap/recipient.ts';
import type { CommandContext } from './context.ts';
import { readKeyFile } from './key-source.ts';

export interface Recipients {
  /** One per scheme and provider; each wraps for all recipients of its scheme. */
  readonly wrappers: readonly KeyWrapper[];
  /** Names the keys, whatever files they come from. */
  readonly ids: readonly string[];
}

/**
 * Reads the public keys of recipients.
 * @throws LatchkeyError USAGE_INVALID, KEY_INVALID, STATE_NOT_FOUND
 */
export async function readRecipients(
  context: CommandContext,
  recipients: readonly string[],
): Promise<Recipients> {
  const known = recipients.map(parseRecipient);
  const parts = [
    await jweRecipients(filesOf(known, 'jwe')),
    await pkcs7Recipients(filesOf(known, 'pkcs7')),
    await pgpRecipients(
      context,
      known.filter((recipient) => recipient.scheme === 'pgp'),
    ),
    await pkcs11Recipients(context, filesOf(known, 'pkcs11')),
    await providerRecipients(
      context,
      known.filter((recipient) => recipient.scheme === 'provider'),
    ),
  ];
  return {
    wrappers: parts.flatMap(({ wrappers }) => wrappers),
    ids: parts.flatMap(({ ids }) => ids),
  };
}

const NOBODY: Recipients = { wrappers: [], ids: [] };

function filesOf(recipients: readonly RecipientArgument[], scheme: FileRecipient['scheme']): string[] {
  return recipients.flatMap((recipient) => (recipient.scheme === scheme ? [recipient.path] : []));
}

async function jweRecipients(paths: readonly string[]): Promise<Recipients> {
  if (paths.length === 0) return NOBODY;
  const { createJweRecipient, createJweWrapper } = await import('#src/keywrap/jwe.ts');
  const recipients = await Promise.all(
    paths.map(async (path): Promise<JweRecipient> => {
      const bytes = await readKeyFile(path);
      return createJweRecipient(parsePublicKey(bytes, path), jwkAlgorithm(bytes, path), path);
    }),
  );
  const ids = recipients.map(({ publicKey }) => sha256(publicKey.export({ format: 'der', type: 'spki' })));
  return { wrappers: [createJweWrapper(recipients)], ids };
}

async function pkcs7Recipients(paths: readonly string[]): Promise<Recipients> {
  if (paths.length === 0) return NOBODY;
  const { createPkcs7Wrapper } = await import('#src/keywrap/pkcs7.ts');
  const certificates = await Promise.all(paths.map(readCertificate));
  const ids = certificates.map((certificate) => sha256(certificate.raw));
  return { wrappers: [createPkcs7Wrapper(certificates)], ids };
}

async function readCertificate(path: string): Promise<X509Certificate> {
  const [certificate] = parseCertificates(await readKeyFile(path));
  if (certificate !== undefined) return certificate;
  throw new LatchkeyError('KEY_INVALID', `${path} is not a certificate`, {
    hint: 'pkcs7: takes an X.509 certificate, PEM or DER; for a bare public key write jwe:FILE',
  });
}

async function pgpRecipients(
  context: CommandContext,
  recipients: readonly PgpRecipient[],
): Promise<Recipients> {
  if (recipients.length === 0) return NOBODY;
  const [{ createPgpWrapper }, { findPgpRecipient }] = await Promise.all([
    import('#src/keywrap/pgp.ts'),
    import('./pgp-keyring.ts'),
  ]);
  const keys = [];
  for (const { name } of recipients) keys.push(await findPgpRecipient(context, name));
  return {
    wrappers: [createPgpWrapper(keys.map(({ key }) => key))],
    ids: keys.map(({ fingerprint }) => fingerprint),
  };
}

async function pkcs11Recipients(context: CommandContext, paths: readonly string[]): Promise<Recipients> {
  if (paths.length === 0) return NOBODY;
  const [{ createPkcs11Wrapper, oaepHashOf }, { readTokenRecipient }] = await Promise.all([
    import('#src/keywrap/pkcs11.ts'),
    import('./token-keys.ts'),
  ]);
  const keys = [];
  for (const path of paths) keys.push(await readTokenRecipient(context, path));
  const ids = keys.map((key) => sha256(key.export({ format: 'der', type: 'spki' })));
  return { wrappers: [createPkcs11Wrapper(keys, oaepHashOf(context.env))], ids };
}

async function providerRecipients(
  context: CommandContext,
  providers: readonly ProviderArgument[],
): Promise<Recipients> {
  if (providers.length === 0) return NOBODY;
  const { providerWrappers } = await import('./key-providers.ts');
  return providerWrappers(context, providers);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

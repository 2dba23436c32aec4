/** Parsers of keys, envelopes and what key providers say. */
import { execFileSync } from 'node:child_process';
import { diffieHellman, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateKey } from 'openpgp';
import { openEnvelope, sealEnvelope } from '#src/crypto/envelope.ts';
import { keyFileContents } from '#src/crypto/key-file-contents.ts';
import { jwkAlgorithm, parseCertificates, parsePrivateKey, parsePublicKey } from '#src/crypto/key-file.ts';
import { openByAgreement } from '#src/crypto/open-agreed.ts';
import { openCheckpoint, signCheckpoint } from '#src/crypto/audit-checkpoint.ts';
import { openNote, parseVerifierKey, verifierKeyText } from '#src/crypto/signed-note.ts';
import { parseSigningKey, parseVerificationKey } from '#src/crypto/signing-key.ts';
import { formatKeyShare, parseKeyShare } from '#src/crypto/key-share.ts';
import { parsePgpPrivateKeys, parsePgpPublicKeys } from '#src/keywrap/pgp-keys.ts';
import { createPgpUnwrapper, createPgpWrapper } from '#src/keywrap/pgp.ts';
import { parseEnvelopedData } from '#src/keywrap/pkcs7-enveloped-data.ts';
import { createPkcs7Unwrapper, createPkcs7Wrapper } from '#src/keywrap/pkcs7.ts';
import { formatPkcs11Envelope, parsePkcs11Envelope } from '#src/keywrap/pkcs11-envelope.ts';
import { parsePkcs11Configuration, parsePkcs11KeyFile } from '#src/keywrap/pkcs11-files.ts';
import { parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import { decodeProviderMessage, encodeProviderMessage } from '#src/keywrap/provider-service.ts';
import { parseProviderConfig } from '#src/keywrap/provider-config.ts';
import {
  formatUnwrapAnswer,
  formatUnwrapRequest,
  formatWrapAnswer,
  formatWrapRequest,
  parseProviderRequest,
  parseUnwrapAnswer,
  parseWrapAnswer,
} from '#src/keywrap/provider-protocol.ts';
import { parseKeyArgument, parseRecipient } from '#src/keywrap/recipient.ts';
import { formatBackupHeader, parseBackupHeader } from '../../keyserver/backup/backup-header.ts';
import { type HostileParser, bytesParser, json, textParser } from './hostile-parser.ts';

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ed25519 = generateKeyPairSync('ed25519');
const SECRET = Buffer.from('{"symkey":""}');

const pem = (key: typeof ec.publicKey, type: 'spki' | 'pkcs8') =>
  Buffer.from(key.export({ format: 'pem', type } as { format: 'pem'; type: 'spki' }));
const jwk = (key: typeof ec.publicKey) => json(key.export({ format: 'jwk' }));
const protectedKey = Buffer.from(
  ec.privateKey.export({ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'secret' }),
);
const certified = selfSigned();
const pkcs7 = await createPkcs7Wrapper(certified.certificates).wrap(SECRET);
const pgp = await generateKey({ userIDs: [{ email: 'a@b.example' }], format: 'object' });
const pgpMessage = await createPgpWrapper([pgp.publicKey]).wrap(SECRET);
const backupHeader = formatBackupHeader({
  ...{ organizationId: 'org_1', createdAtMs: 1, latchkey: '0.1.0', schema: '0001', salt: new Uint8Array(32) },
  slots: [
    {
      ...{ id: 'slot_1', organization_id: 'org_1', kind: 'shamir', label: 'primary', created_at_ms: 1 },
      ...{ key_check: 'a', wrapped_root_key: Uint8Array.of(1), parameters: '{}' },
    },
  ],
});
const envelope = await sealEnvelope(new Uint8Array(32), ec.publicKey, 'latchkey-image-key-lease');

/** With an RSA key, as pkcs7 needs one. */
function selfSigned() {
  const directory = mkdtempSync(join(tmpdir(), 'latchkey-hostile-'));
  try {
    const [key, certificate] = [join(directory, 'key.pem'), join(directory, 'certificate.pem')];
    const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=a', '-days', '30'];
    execFileSync('openssl', [...request, '-keyout', key, '-out', certificate], { stdio: 'ignore' });
    const bytes = readFileSync(certificate);
    return {
      bytes,
      certificates: parseCertificates(bytes),
      privateKey: parsePrivateKey(readFileSync(key), 'key'),
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const PKCS11_URI = 'pkcs11:token=t;object=k;id=%01?pin-value=1&module-name=m';
const pkcs11 = formatPkcs11Envelope([{ ciphertext: new Uint8Array(256), hash: 'sha256' }]);
const slow = { isSlow: true };
const typed = { isTyped: true };

const auditVerifierKey = verifierKeyText('log', ed25519.publicKey);
const auditCheckpoint = signCheckpoint('log', { size: 3, root: new Uint8Array(32) }, ed25519.privateKey);

export const KEY_PARSERS: readonly HostileParser[] = [
  bytesParser('keyserver/backup/backup-header.ts', 'parseBackupHeader', [backupHeader], parseBackupHeader),
  bytesParser(
    'src/crypto/key-file.ts',
    'parsePublicKey',
    [
      pem(ec.publicKey, 'spki'),
      rsa.publicKey.export({ format: 'der', type: 'pkcs1' }),
      jwk(ec.publicKey),
      certified.bytes,
    ],
    (bytes) => parsePublicKey(bytes, 'the key'),
  ),
  bytesParser(
    'src/crypto/key-file.ts',
    'parsePrivateKey',
    [
      pem(ec.privateKey, 'pkcs8'),
      rsa.privateKey.export({ format: 'der', type: 'pkcs1' }),
      ec.privateKey.export({ format: 'der', type: 'sec1' }),
      jwk(ec.privateKey),
    ],
    (bytes) => parsePrivateKey(bytes, 'the key'),
    slow,
  ),
  bytesParser(
    'src/crypto/key-file.ts',
    'parsePrivateKey with a password',
    [protectedKey],
    (bytes) => parsePrivateKey(bytes, 'the key', 'secret'),
    slow,
  ),
  bytesParser('src/crypto/key-file.ts', 'parseCertificates', [certified.bytes], parseCertificates),
  bytesParser('src/crypto/key-file.ts', 'jwkAlgorithm', [jwk(ec.publicKey)], (bytes) =>
    jwkAlgorithm(bytes, 'the key'),
  ),
  bytesParser('src/crypto/key-file-contents.ts', 'keyFileContents', [certified.bytes], keyFileContents),
  bytesParser(
    'src/crypto/signing-key.ts',
    'parseSigningKey',
    [pem(ed25519.privateKey, 'pkcs8'), jwk(ed25519.privateKey), pem(ec.privateKey, 'pkcs8')],
    (bytes) => parseSigningKey(bytes, 'the key'),
  ),
  bytesParser(
    'src/crypto/signing-key.ts',
    'parseVerificationKey',
    [pem(ed25519.publicKey, 'spki'), jwk(ed25519.publicKey)],
    (bytes) => parseVerificationKey(bytes, 'the key'),
  ),
  textParser(
    'src/crypto/key-share.ts',
    'parseKeyShare',
    [formatKeyShare({ setId: '0102030405ff', threshold: 2, number: 1, share: new Uint8Array(33).fill(7) })],
    parseKeyShare,
  ),
  textParser('src/crypto/signed-note.ts', 'parseVerifierKey', [auditVerifierKey], (text) =>
    parseVerifierKey(text),
  ),
  textParser('src/crypto/signed-note.ts', 'openNote', [auditCheckpoint], (text) =>
    openNote(text, parseVerifierKey(auditVerifierKey), 'the note'),
  ),
  textParser('src/crypto/audit-checkpoint.ts', 'openCheckpoint', [auditCheckpoint], (text) =>
    openCheckpoint(text, parseVerifierKey(auditVerifierKey), 'the checkpoint'),
  ),
  textParser('src/crypto/envelope.ts', 'openEnvelope', [envelope], (text) =>
    openEnvelope(text, ec.privateKey, 'latchkey-image-key-lease'),
  ),
  textParser('src/crypto/open-agreed.ts', 'openByAgreement', [envelope], (text) =>
    openByAgreement(
      text,
      (publicKey) => Promise.resolve(diffieHellman({ privateKey: ec.privateKey, publicKey })),
      'latchkey-image-key-lease',
    ),
  ),
  bytesParser('src/keywrap/pkcs7-enveloped-data.ts', 'parseEnvelopedData', [pkcs7], parseEnvelopedData),
  bytesParser(
    'src/keywrap/pkcs7.ts',
    'createPkcs7Unwrapper',
    [pkcs7],
    (bytes) => createPkcs7Unwrapper(certified.certificates[0]!, certified.privateKey).unwrap(bytes),
    slow,
  ),
  bytesParser(
    'src/keywrap/pgp-keys.ts',
    'parsePgpPrivateKeys',
    [pgp.privateKey.write(), Buffer.from(pgp.privateKey.armor())],
    (bytes) => parsePgpPrivateKeys(bytes, 'the key'),
    slow,
  ),
  bytesParser(
    'src/keywrap/pgp-keys.ts',
    'parsePgpPublicKeys',
    [pgp.publicKey.write(), Buffer.from(pgp.publicKey.armor())],
    (bytes) => parsePgpPublicKeys(bytes, 'the key'),
    slow,
  ),
  bytesParser(
    'src/keywrap/pgp.ts',
    'createPgpUnwrapper',
    [pgpMessage],
    (bytes) => createPgpUnwrapper([pgp.privateKey]).unwrap(bytes),
    slow,
  ),
  bytesParser(
    'src/keywrap/provider-protocol.ts',
    'parseProviderRequest',
    [formatWrapRequest('kp', 'a=b', SECRET), formatUnwrapRequest('kp', 'a=b', SECRET)],
    (bytes) => parseProviderRequest(bytes, 'kp'),
  ),
  bytesParser(
    'src/keywrap/provider-protocol.ts',
    'parseWrapAnswer',
    [formatWrapAnswer(SECRET)],
    parseWrapAnswer,
  ),
  bytesParser(
    'src/keywrap/provider-protocol.ts',
    'parseUnwrapAnswer',
    [formatUnwrapAnswer(SECRET)],
    parseUnwrapAnswer,
  ),
  bytesParser(
    'src/keywrap/provider-config.ts',
    'parseProviderConfig',
    [
      json({
        'key-providers': {
          a: { cmd: { path: '/x', args: ['y'] } },
          b: { grpc: 'localhost:1', 'grpc-tls': { 'root-ca-file': '/x', 'server-name': 'y' } },
          c: { ttrpc: 'unix:///x' },
        },
      }),
    ],
    (bytes) => parseProviderConfig(bytes, 'the file'),
    typed,
  ),
  bytesParser(
    'src/keywrap/provider-service.ts',
    'decodeProviderMessage',
    [encodeProviderMessage(SECRET)],
    decodeProviderMessage,
    { raises: Error },
  ),
  bytesParser('src/keywrap/pkcs11-envelope.ts', 'parsePkcs11Envelope', [pkcs11], parsePkcs11Envelope),
  bytesParser(
    'src/keywrap/pkcs11-files.ts',
    'parsePkcs11KeyFile',
    [Buffer.from(`pkcs11:\n  uri: ${PKCS11_URI}\nmodule:\n  env:\n    A: b\n`)],
    (bytes) => parsePkcs11KeyFile(bytes, 'the file'),
    typed,
  ),
  bytesParser(
    'src/keywrap/pkcs11-files.ts',
    'parsePkcs11Configuration',
    [Buffer.from('pkcs11:\n  module-directories:\n    - /usr/lib\n')],
    (bytes) => parsePkcs11Configuration(bytes, 'the file'),
    typed,
  ),
  textParser('src/keywrap/pkcs11-uri.ts', 'parsePkcs11Uri', [PKCS11_URI], parsePkcs11Uri, typed),
  textParser(
    'src/keywrap/recipient.ts',
    'parseRecipient',
    ['jwe:a.pem', 'provider:kp:a:b', 'pgp:a@b.example'],
    parseRecipient,
    typed,
  ),
  textParser(
    'src/keywrap/recipient.ts',
    'parseKeyArgument',
    ['key.pem:pass=x', 'key.pem:fd=3', 'provider:kp', 'pkcs11:token=x'],
    parseKeyArgument,
    typed,
  ),
];

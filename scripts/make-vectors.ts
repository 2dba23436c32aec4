/**
 * Makes the vectors of test/vectors/ocicrypt anew with the real peers; test/vectors/README.md says what they need.
 * Usage: node scripts/make-vectors.ts [NAME...]; with names only those, for the keys that are there. `skopeo-pgp` is
 * made with new keys only: the keyring of its sender is not kept.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLayout } from '#src/store/layout.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { digestHex, isDigest } from '#src/oci/digest.ts';
import { peerTool } from '../lab/peer-tools.ts';
import { type RealLayer, realLayer, storeRealImage, tarOf } from '../test/image/real-image.ts';

const ROOT = join(import.meta.dirname, '..');
const OUT = join(ROOT, 'test', 'vectors', 'ocicrypt');
const KEYS = join(OUT, 'keys');
const PGP_PASSWORD = 'open sesame';
const PIN = '1234';
const NONDISTRIBUTABLE = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip';

const directory = mkdtempSync(join(tmpdir(), 'latchkey-vectors-'));
const at = (name: string) => join(directory, name);
const key = (name: string) => join(KEYS, name);

function run(program: string, args: readonly string[], env: Record<string, string> = {}): string {
  const options = { cwd: directory, env: { ...process.env, ...env }, encoding: 'utf8' } as const;
  return execFileSync(program, args, options).trim();
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

function onlyLayer(layout: string): Descriptor {
  const raw = run('skopeo', ['inspect', '--raw', `oci:${layout}:v1`]);
  const [layer] = (JSON.parse(raw) as { layers: Descriptor[] }).layers;
  if (layer === undefined) throw new Error(`${layout} has no layer`);
  return layer;
}

function blob(layout: string, { digest }: Descriptor): Buffer {
  if (!isDigest(digest)) throw new Error(`${digest} is not a digest`);
  return readFileSync(join(at(layout), 'blobs', 'sha256', digestHex(digest)));
}

/** An image of one layer in a layout of that name, and the layer. */
interface Source {
  readonly layout: string;
  readonly bytes: Buffer;
}

interface Vector {
  readonly peer: string;
  readonly command: string;
  readonly descriptor: Descriptor;
  readonly ciphertext: Buffer;
  readonly plaintext: Buffer;
}

function save(name: string, vector: Vector): void {
  const encoded = {
    ...vector,
    ciphertext: vector.ciphertext.toString('base64'),
    plaintext: vector.plaintext.toString('base64'),
  };
  writeFileSync(join(OUT, `${name}.json`), `${JSON.stringify(encoded, null, 2)}\n`);
  process.stdout.write(`${name}: ${vector.descriptor.mediaType}\n`);
}

function makeKeys(): void {
  run('openssl', ['genrsa', '-traditional', '-out', key('rsa.pem'), '2048']);
  run('openssl', ['genrsa', '-traditional', '-out', key('token.pem'), '3072']);
  for (const [name, curve] of [
    ['ec', 'P-256'],
    ['ec384', 'P-384'],
  ] as const) {
    run('openssl', [
      ...['genpkey', '-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`],
      ...['-out', key(`${name}.pem`)],
    ]);
  }
  for (const name of ['rsa', 'token', 'ec', 'ec384']) {
    run('openssl', ['pkey', '-in', key(`${name}.pem`), '-pubout', '-out', key(`${name}.pub.pem`)]);
  }
  for (const [name, subject] of [
    ['rsa', '/O=Acme/CN=Customer'],
    ['token', '/O=Acme/CN=Another customer'],
  ] as const) {
    run('openssl', [
      ...['req', '-x509', '-key', key(`${name}.pem`), '-subj', subject, '-days', '36500'],
      ...['-out', key(`${name}.crt`)],
    ]);
  }
}

const gpg = (password: string, ...args: string[]) =>
  run('gpg', ['--batch', '--pinentry-mode', 'loopback', '--passphrase', password, ...args], gpgHome());
const gpgHome = () => ({ GNUPGHOME: at('gnupg') });

function makePgpKeys(): void {
  mkdirSync(at('gnupg'), { mode: 0o700 });
  for (const [name, password] of [
    ['Customer', ''],
    ['Locked', PGP_PASSWORD],
  ] as const) {
    gpg(
      password,
      '--quick-generate-key',
      `${name} <${name.toLowerCase()}@acme.example>`,
      'rsa2048',
      'default',
      '0',
    );
    const listing = gpg(password, '--with-colons', '--list-keys', name);
    const fingerprint = /^fpr:+([0-9A-F]+):/m.exec(listing)?.[1] ?? '';
    gpg(password, '--quick-add-key', fingerprint, 'rsa2048', 'encr', '0');
  }
  gpg('', '--armor', '--output', key('pgp.asc'), '--export-secret-keys', 'Customer');
  gpg(PGP_PASSWORD, '--output', key('pgp-locked.gpg'), '--export-secret-keys', 'Locked');
  gpg('', '--output', key('pgp.pub.gpg'), '--export', 'Customer');
}

function makeToken(): Record<string, string> {
  mkdirSync(at('tokens'));
  writeFileSync(at('softhsm2.conf'), `directories.tokendir = ${at('tokens')}\nobjectstore.backend = file\n`);
  const env = { SOFTHSM2_CONF: at('softhsm2.conf'), OCICRYPT_CONFIG: 'internal' };
  run('softhsm2-util', ['--init-token', '--free', '--label', 'acme', '--pin', PIN, '--so-pin', PIN], env);
  run('openssl', ['pkcs8', '-topk8', '-nocrypt', '-in', key('token.pem'), '-out', at('token.pkcs8')]);
  run(
    'softhsm2-util',
    ['--import', at('token.pkcs8'), '--token', 'acme', '--label', 'layers', '--id', 'a1', '--pin', PIN],
    env,
  );
  return env;
}

/** The peer's own copy of an image, encrypted; `plaintext` is the layer that it was given. */
function copyWith(
  name: string,
  program: string,
  source: Source,
  recipients: readonly string[],
  env: Record<string, string> = {},
): void {
  const encryption = recipients.flatMap((recipient) => ['--encryption-key', recipient]);
  run(
    program,
    ['--insecure-policy', 'copy', ...encryption, `oci:${source.layout}:v1`, `oci:${name}:v1`],
    env,
  );
  const descriptor = onlyLayer(name);
  const variables = Object.entries(env).filter(([variable]) => variable === 'OCICRYPT_OAEP_HASHALG');
  save(name, {
    peer: run(program, ['--version']),
    command: [
      ...variables.map((entry) => entry.join('=')),
      'skopeo copy',
      ...encryption.map((text) => text.replace(`${KEYS}/`, '')),
      'oci:source:v1 oci:encrypted:v1',
    ].join(' '),
    descriptor,
    ciphertext: blob(name, descriptor),
    plaintext: source.bytes,
  });
}

/** buildah compresses anew, so that skopeo has to say what the plaintext is. */
function pushWithBuildah(name: string, source: string, recipient: string): void {
  const storage = ['--root', at('storage'), '--runroot', at('run'), '--storage-driver', 'vfs'];
  const image = run('buildah', [...storage, 'pull', '--policy', 'always', `oci:${source}:v1`]);
  run('buildah', [...storage, 'push', '--encryption-key', recipient, image, `oci:${name}:v1`]);
  const descriptor = onlyLayer(name);
  const decryption = ['--decryption-key', key('ec.pem')];
  run('skopeo', ['--insecure-policy', 'copy', ...decryption, `oci:${name}:v1`, `oci:${name}-plain:v1`]);
  save(name, {
    peer: run('buildah', ['--version']),
    command: 'buildah push --encryption-key jwe:ec.pub.pem IMAGE oci:encrypted:v1',
    descriptor,
    ciphertext: blob(name, descriptor),
    plaintext: blob(`${name}-plain`, onlyLayer(`${name}-plain`)),
  });
}

/** Only the Go library adds recipients to a layer that has some. */
function addWithLibrary(name: string, layer: Buffer): void {
  writeFileSync(at('layer.tar'), layer);
  const goEnvironment = { GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOCACHE: at('go-cache') };
  run(
    'go',
    ['build', '-o', at('add-recipient'), join(ROOT, 'scripts', 'vectors', 'add-recipient.go')],
    goEnvironment,
  );
  const recipients = ['rsa', 'ec', 'ec384'].map((recipient) => `jwe:${key(recipient)}.pub.pem`);
  const descriptor = run(at('add-recipient'), [
    ...[at('layer.tar'), MEDIA_TYPE.ociLayer, key('rsa.pem'), at('ciphertext')],
    ...recipients,
  ]);
  save(name, {
    peer: 'ocicrypt 1.0.3 (Debian golang-github-containers-ocicrypt-dev)',
    command: 'scripts/vectors/add-recipient.go: jwe:rsa.pub.pem, then jwe:ec.pub.pem, then jwe:ec384.pub.pem',
    descriptor: JSON.parse(descriptor) as Descriptor,
    ciphertext: readFileSync(at('ciphertext')),
    plaintext: layer,
  });
}

async function storeSource(layout: string, layer: RealLayer): Promise<Source> {
  await storeRealImage(openLayout(at(layout)), [layer], { tag: 'v1' });
  return { layout, bytes: layer.bytes };
}

/** The provider of the tests' fakes, under the name `acme`. */
function configureProvider(): Record<string, string> {
  const program = join(ROOT, 'test', 'fakes', 'key-provider-program.ts');
  const cmd = { path: process.execPath, args: [program, directory] };
  writeFileSync(at('providers.json'), JSON.stringify({ 'key-providers': { acme: { cmd } } }));
  return { OCICRYPT_KEYPROVIDER_CONFIG: at('providers.json') };
}

async function main(names: readonly string[]): Promise<void> {
  if (names.length === 0) {
    rmSync(OUT, { recursive: true, force: true });
    mkdirSync(KEYS, { recursive: true });
    makeKeys();
    makePgpKeys();
  }
  const token = makeToken();
  run('sh', [join(ROOT, 'scripts', 'fetch-peer-tools.sh')]);
  const newer = peerTool('skopeo');
  const text = Buffer.from('Acme proprietary\n'.repeat(20));
  const tar = await tarOf('data/file', text);
  const gzip = await storeSource('gzip', await realLayer(MEDIA_TYPE.ociLayerGzip, text));
  const zstd = await storeSource('zstd', await realLayer(MEDIA_TYPE.ociLayerZstd, text));
  const foreign = await storeSource('foreign', await realLayer(NONDISTRIBUTABLE, text));
  const certificates = [`pkcs7:${key('rsa.crt')}`, `pkcs7:${key('token.crt')}`];
  const tokenRecipient = [`pkcs11:${key('token.pub.pem')}`];
  const several = ['ec', 'rsa', 'ec384'].map((name) => `jwe:${key(name)}.pub.pem`);
  const pgp = ['pgp:customer@acme.example', 'pgp:Locked'];
  const makers: Readonly<Record<string, (name: string) => void>> = {
    'skopeo-jwe-rsa': (name) => {
      copyWith(name, 'skopeo', gzip, [`jwe:${key('rsa.pub.pem')}`]);
    },
    'skopeo-jwe-several': (name) => {
      copyWith(name, 'skopeo', zstd, several);
    },
    'skopeo-jwe-nondistributable': (name) => {
      copyWith(name, 'skopeo', foreign, [`jwe:${key('ec.pub.pem')}`]);
    },
    'skopeo-pkcs7': (name) => {
      copyWith(name, 'skopeo', gzip, certificates);
    },
    'skopeo-pgp': (name) => {
      copyWith(name, 'skopeo', zstd, pgp, gpgHome());
    },
    'buildah-jwe-ec': (name) => {
      pushWithBuildah(name, 'gzip', `jwe:${key('ec.pub.pem')}`);
    },
    'library-jwe-added': (name) => {
      addWithLibrary(name, tar);
    },
    'skopeo-pkcs11-sha1': (name) => {
      copyWith(name, newer, gzip, tokenRecipient, { ...token, OCICRYPT_OAEP_HASHALG: 'sha1' });
    },
    'skopeo-pkcs11-sha256': (name) => {
      copyWith(name, newer, gzip, tokenRecipient, { ...token, OCICRYPT_OAEP_HASHALG: 'sha256' });
    },
    'skopeo13-pkcs7': (name) => {
      copyWith(name, newer, gzip, certificates);
    },
    'skopeo13-provider': (name) => {
      copyWith(name, newer, gzip, ['provider:acme'], configureProvider());
    },
  };
  for (const [name, make] of Object.entries(makers)) {
    if (names.length === 0 || names.includes(name)) make(name);
  }
}

try {
  await main(process.argv.slice(2));
} finally {
  run('gpgconf', ['--kill', 'all'], gpgHome());
  rmSync(directory, { recursive: true, force: true });
}

/**
 * Makes the vectors of test/vectors/ocicrypt anew with the real peers; test/vectors/README.md says what they need.
 * Usage: node scripts/make-vectors.ts
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { openLayout } from '#src/store/layout.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { digestHex, digestOf, isDigest } from '#src/oci/digest.ts';
import { peerTool } from '../lab/peer-tools.ts';
import { realLayer, storeRealImage, tarOf } from '../test/image/real-image.ts';

const ROOT = join(import.meta.dirname, '..');
const OUT = join(ROOT, 'test', 'vectors', 'ocicrypt');
const KEYS = join(OUT, 'keys');
const PGP_PASSWORD = 'open sesame';
const PIN = '1234';

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
  source: { readonly layout: string; readonly bytes: Buffer },
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

async function main(): Promise<void> {
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(KEYS, { recursive: true });
  makeKeys();
  makePgpKeys();
  const token = makeToken();
  const text = Buffer.from('Acme proprietary\n'.repeat(20));
  const gzip = await realLayer(MEDIA_TYPE.ociLayerGzip, text);
  await storeRealImage(openLayout(at('gzip')), [gzip], { tag: 'v1' });
  const tar = await tarOf('data/file', text);
  const zstdBytes = zstdCompressSync(tar);
  const mediaType = `${MEDIA_TYPE.ociLayer}+zstd`;
  const zstd = { mediaType, digest: digestOf(zstdBytes), size: zstdBytes.length };
  await storeRealImage(
    openLayout(at('zstd')),
    [{ descriptor: zstd, bytes: zstdBytes, diffId: digestOf(tar) }],
    { tag: 'v1' },
  );
  const gzipSource = { layout: 'gzip', bytes: gzip.bytes };
  const zstdSource = { layout: 'zstd', bytes: zstdBytes };
  const certificates = [`pkcs7:${key('rsa.crt')}`, `pkcs7:${key('token.crt')}`];
  const several = ['ec', 'rsa', 'ec384'].map((name) => `jwe:${key(name)}.pub.pem`);
  copyWith('skopeo-jwe-rsa', 'skopeo', gzipSource, [`jwe:${key('rsa.pub.pem')}`]);
  copyWith('skopeo-jwe-several', 'skopeo', zstdSource, several);
  copyWith('skopeo-pkcs7', 'skopeo', gzipSource, certificates);
  copyWith('skopeo-pgp', 'skopeo', zstdSource, ['pgp:customer@acme.example', 'pgp:Locked'], gpgHome());
  pushWithBuildah('buildah-jwe-ec', 'gzip', `jwe:${key('ec.pub.pem')}`);
  addWithLibrary('library-jwe-added', tar);
  run('sh', [join(ROOT, 'scripts', 'fetch-peer-tools.sh')]);
  const newer = peerTool('skopeo');
  for (const hash of ['sha1', 'sha256']) {
    const env = { ...token, OCICRYPT_OAEP_HASHALG: hash };
    copyWith(`skopeo-pkcs11-${hash}`, newer, gzipSource, [`pkcs11:${key('token.pub.pem')}`], env);
  }
  copyWith('skopeo13-pkcs7', newer, gzipSource, certificates);
}

try {
  await main();
} finally {
  run('gpgconf', ['--kill', 'all'], gpgHome());
  rmSync(directory, { recursive: true, force: true });
}

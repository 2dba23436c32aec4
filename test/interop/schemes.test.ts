/** Every key scheme against the Go tools, both ways: what they encrypt we decrypt, what we encrypt they decrypt. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { digestHex } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { peerTool, peerToolsSkipReason } from '../../lab/peer-tools.ts';
import { readVectorKey, vectorKeyPath } from '../fakes/ocicrypt-vector.ts';
import { type SoftToken, createSoftToken, softTokenSkipReason } from '../fakes/soft-token.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const SKOPEO = '/usr/bin/skopeo';
const BUILDAH = '/usr/bin/buildah';
const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const missing = [SKOPEO, BUILDAH, '/usr/bin/gpg'].filter((program) => !existsSync(program));
const reason = missing.length === 0 ? '' : ` (skipped: needs ${missing.join(', ')})`;
const execute = promisify(execFile);
const content = Buffer.from('Acme proprietary\n'.repeat(500));

let directory: string;
let env: NodeJS.ProcessEnv;
const at = (name: string) => join(directory, name);
const run = (program: string, ...args: string[]) => execute(program, args, { env, cwd: directory });
const latchkey = (...args: string[]) => run(process.execPath, LATCHKEY, ...args);
const skopeo = (...args: string[]) => run(SKOPEO, '--insecure-policy', ...args);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-schemes-'));
  env = { ...process.env, GNUPGHOME: at('gnupg'), XDG_CACHE_HOME: at('cache'), OCICRYPT_CONFIG: 'internal' };
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip, content)];
  const config = { config: { Cmd: ['/bin/true'] } };
  await storeRealImage(openLayout(at('source')), layers, { tag: 'v1', config });
  await mkdir(at('gnupg'), { mode: 0o700 });
  if (reason !== '') return;
  // The keyring of the user who encrypts; the secret key is elsewhere.
  await run('gpg', '--batch', '--import', vectorKeyPath('pgp.pub.gpg'));
  // skopeo 1.9.3 reads PGP keys in binary only.
  await mkdir(at('other-gnupg'), { mode: 0o700 });
  const other = { env: { ...env, GNUPGHOME: at('other-gnupg') } };
  await execute('gpg', ['--batch', '--import', vectorKeyPath('pgp.asc')], other);
  await execute('gpg', ['--batch', '--output', at('pgp.gpg'), '--export-secret-keys'], other);
  await execute('gpgconf', ['--kill', 'all'], other);
  // Private key files of a checkout are not readable by others, whatever the mode git gave them.
  await writeFile(at('rsa.pem'), readVectorKey('rsa.pem'));
  await chmod(at('rsa.pem'), 0o600);
});

afterAll(async () => {
  if (reason === '') await run('gpgconf', '--kill', 'all');
  await rm(directory, { recursive: true, force: true });
});

/** What a runtime would see in the only layer. */
async function contentOf(layout: string): Promise<Buffer> {
  const [image] = platformImages(await readImageGraph(openLayout(at(layout)), 'v1'));
  const [layer] = image!.manifest.layers;
  await writeFile(at('layer'), await readFile(join(at(layout), 'blobs', 'sha256', digestHex(layer!.digest))));
  const unzip = layer!.mediaType.endsWith('gzip') ? '-xzOf' : '-xOf';
  return Buffer.from((await run('tar', unzip, at('layer'), 'data/file')).stdout);
}

const encryptionKeys = (recipients: readonly string[]) =>
  recipients.flatMap((recipient) => ['--encryption-key', recipient]);
const decryptionKeys = (keys: readonly string[]) => keys.flatMap((key) => ['--decryption-key', key]);

interface Scheme {
  readonly recipients: readonly string[];
  readonly keys: readonly string[];
}

const key = vectorKeyPath;
const schemes: [string, Scheme][] = [
  ['jwe-rsa', { recipients: [`jwe:${key('rsa.pub.pem')}`], keys: [key('rsa.pem')] }],
  ['jwe-ec', { recipients: [`jwe:${key('ec.pub.pem')}`], keys: [key('ec.pem')] }],
  [
    'jwe-several',
    {
      recipients: ['ec', 'rsa', 'ec384'].map((name) => `jwe:${key(name)}.pub.pem`),
      keys: [key('ec384.pem')],
    },
  ],
  [
    'pkcs7',
    {
      recipients: [`pkcs7:${key('token.crt')}`, `pkcs7:${key('rsa.crt')}`],
      keys: [key('rsa.pem'), key('rsa.crt')],
    },
  ],
  ['pgp', { recipients: ['pgp:customer@acme.example'], keys: ['pgp.gpg'] }],
  ['pgp-name', { recipients: ['pgp:Customer'], keys: ['pgp.gpg'] }],
  [
    'all-at-once',
    {
      recipients: [`jwe:${key('ec.pub.pem')}`, `pkcs7:${key('rsa.crt')}`, 'pgp:Customer'],
      keys: ['pgp.gpg'],
    },
  ],
];

describe.skipIf(reason !== '')(`the Go tools of Debian 12${reason}`, () => {
  test.each(schemes)('skopeo encrypts with %s, and we decrypt', async (name, { recipients, keys }) => {
    await skopeo('copy', ...encryptionKeys(recipients), 'oci:source:v1', `oci:theirs-${name}:v1`);
    const ours = keys.flatMap((file) => ['--key', file]);
    await latchkey('decrypt', ...ours, `oci:theirs-${name}:v1`, `oci:theirs-${name}-plain:v1`);
    expect(await contentOf(`theirs-${name}-plain`)).toEqual(content);
  });

  test.each(schemes)(
    'we encrypt with %s, and skopeo and buildah decrypt',
    async (name, { recipients, keys }) => {
      const theirs = recipients.flatMap((recipient) => ['--recipient', recipient]);
      await latchkey('encrypt', ...theirs, 'oci:source:v1', `oci:ours-${name}:v1`);
      await skopeo('copy', ...decryptionKeys(keys), `oci:ours-${name}:v1`, `oci:ours-${name}-plain:v1`);
      expect(await contentOf(`ours-${name}-plain`)).toEqual(content);
      await latchkey(
        'decrypt',
        ...keys.flatMap((file) => ['--key', file]),
        `oci:ours-${name}:v1`,
        `oci:own-${name}:v1`,
      );
      expect(await contentOf(`own-${name}`)).toEqual(content);
      const storage = ['--root', at('storage'), '--runroot', at('run'), '--storage-driver', 'vfs'];
      const pulled = await run(
        BUILDAH,
        ...storage,
        'pull',
        '--policy',
        'always',
        ...decryptionKeys(keys),
        `oci:ours-${name}:v1`,
      );
      await run(BUILDAH, ...storage, 'push', pulled.stdout.trim(), `oci:buildah-${name}:v1`);
      expect(await contentOf(`buildah-${name}`)).toEqual(content);
    },
  );

  test('buildah encrypts, and we decrypt', async () => {
    const storage = ['--root', at('storage'), '--runroot', at('run'), '--storage-driver', 'vfs'];
    const { stdout } = await run(BUILDAH, ...storage, 'pull', '--policy', 'always', 'oci:source:v1');
    const recipients = encryptionKeys([`jwe:${key('ec.pub.pem')}`, `pkcs7:${key('rsa.crt')}`]);
    await run(BUILDAH, ...storage, 'push', ...recipients, stdout.trim(), 'oci:buildah:v1');
    for (const keys of [[key('ec.pem')], [key('rsa.pem'), key('rsa.crt')]]) {
      const out = `buildah-plain-${keys.length}`;
      await latchkey(
        'decrypt',
        ...keys.flatMap((file) => ['--key', file]),
        'oci:buildah:v1',
        `oci:${out}:v1`,
      );
      expect(await contentOf(out)).toEqual(content);
    }
  });

  test('a public key from a file is a PGP recipient as well', async () => {
    const recipient = `pgp:${vectorKeyPath('pgp.pub.gpg')}`;
    await latchkey('encrypt', '--recipient', recipient, 'oci:source:v1', 'oci:pgp-file:v1');
    await skopeo('copy', '--decryption-key', 'pgp.gpg', 'oci:pgp-file:v1', 'oci:pgp-file-plain:v1');
    expect(await contentOf('pgp-file-plain')).toEqual(content);
  });

  test.each(['--output=injected', '-o injected', '--help', 'Custom', '*'])(
    'a PGP name like %j is a name, not an option',
    async (name) => {
      const failed = latchkey('encrypt', '--recipient', `pgp:${name}`, 'oci:source:v1', 'oci:never:v1');
      await expect(failed).rejects.toMatchObject({
        stderr: expect.stringContaining('does not hold a key of') as string,
      });
      expect(existsSync(at('injected'))).toBe(false);
      expect(existsSync(at('never'))).toBe(false);
    },
  );
});

const peerReason = peerToolsSkipReason('skopeo');
const tokenReason = peerReason === undefined ? softTokenSkipReason() : ` (skipped: ${peerReason})`;

describe.skipIf(tokenReason !== '')(`Debian 13's skopeo with a PKCS#11 token${tokenReason}`, () => {
  let token: SoftToken;
  const peer = (...args: string[]) => run(peerTool('skopeo'), '--insecure-policy', ...args);

  beforeAll(async () => {
    await mkdir(at('hsm'));
    token = await createSoftToken(at('hsm'));
    env['OCICRYPT_OAEP_HASHALG'] = 'sha1';
  });

  const recipients = (): [string, string][] => [
    ['public-key', `pkcs11:${vectorKeyPath('token.pub.pem')}`],
    ['key-file', `pkcs11:${token.keyFile}`],
  ];

  test('encrypts, and we decrypt, by key file and by URI', async () => {
    for (const [name, recipient] of recipients()) {
      await peer('copy', ...encryptionKeys([recipient]), 'oci:source:v1', `oci:token-${name}:v1`);
      await latchkey('decrypt', '--key', token.keyFile, `oci:token-${name}:v1`, `oci:token-${name}-plain:v1`);
      expect(await contentOf(`token-${name}-plain`)).toEqual(content);
    }
    await writeFile(at('pin'), '1234\n');
    env['SOFTHSM2_CONF'] = token.moduleEnvironment['SOFTHSM2_CONF'];
    const uri = `${token.path}?module-name=softhsm2&pin-source=${at('pin')}`;
    await latchkey('decrypt', '--key', uri, 'oci:token-key-file:v1', 'oci:token-uri-plain:v1');
    expect(await contentOf('token-uri-plain')).toEqual(content);
  });

  test('decrypts what we encrypt', async () => {
    for (const [name, recipient] of recipients()) {
      await latchkey('encrypt', '--recipient', recipient, 'oci:source:v1', `oci:our-token-${name}:v1`);
      await peer(
        'copy',
        '--decryption-key',
        token.keyFile,
        `oci:our-token-${name}:v1`,
        `oci:our-token-${name}-plain:v1`,
      );
      expect(await contentOf(`our-token-${name}-plain`)).toEqual(content);
    }
  });

  test('nothing is loaded without a configuration that allows it', async () => {
    const before = env;
    env = { ...env, OCICRYPT_CONFIG: '', HOME: directory, XDG_CONFIG_HOME: directory };
    const decrypt = () =>
      latchkey('decrypt', '--key', token.keyFile, 'oci:token-key-file:v1', 'oci:never:v1');
    await expect(decrypt()).rejects.toMatchObject({
      stderr: expect.stringContaining('CONFIG_INVALID: no PKCS#11 module is allowed') as string,
    });
    await writeFile(at('ocicrypt.conf'), 'pkcs11:\n  module-directories:\n    - /usr/lib/softhsm/\n');
    await expect(decrypt()).rejects.toMatchObject({
      stderr: expect.stringContaining('AUTH_FORBIDDEN: the PKCS#11 module') as string,
    });
    env = before;
  });
});

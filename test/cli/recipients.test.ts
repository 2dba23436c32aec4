/** `latchkey recipients`: who can open an image, with skopeo as the recipient and a registry that counts uploads. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { type FakeRegistry, startFakeRegistry } from '../fakes/registry.ts';
import { adminClient } from '../fakes/sold-product.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const SKOPEO = '/usr/bin/skopeo';
const reason = existsSync(SKOPEO) ? '' : ` (skipped: needs ${SKOPEO}: apt-get install skopeo)`;
const NAMES = ['isv', 'one', 'two', 'new'] as const;

let directory: string;
let server: TestKeyServer;
let registry: FakeRegistry;
let token: string;

interface Listed {
  readonly digest: string;
  readonly layers: { digest: string; recipients: { name: string; imageKeyId?: string }[] }[];
}

function latchkey(...args: string[]) {
  const env = { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: token };
  return runLatchkey([...args, '--json'], { directory, env });
}

async function done<Result>(...args: string[]): Promise<Result> {
  const { stdout, stderr, status } = await latchkey(...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as Result;
}

const list = (image: string) => done<Listed>('recipients', 'list', image);
const names = ({ layers }: Listed) => layers.map(({ recipients }) => recipients.map(({ name }) => name));
const to = (...recipients: string[]) => recipients.flatMap((name) => ['--recipient', `jwe:${name}.pub.pem`]);

/** Whether skopeo decrypts an image of a layout with a key. */
function skopeoOpens(image: string, key: string): Promise<boolean> {
  const target = `oci:${join(directory, `skopeo-${key}-${Math.random().toString(36).slice(2)}`)}:x`;
  const args = [
    '--insecure-policy',
    'copy',
    '--decryption-key',
    join(directory, `${key}.pem`),
    image,
    target,
  ];
  return new Promise((resolve) => {
    execFile(SKOPEO, args, { cwd: directory }, (error) => resolve(error === null));
  });
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-recipients-'));
  [server, registry] = await Promise.all([startKeyServer(), startFakeRegistry()]);
  const admin = adminClient(server);
  await admin.createProduct({ code: 'acme', name: 'Acme' });
  await admin.createProduct({ code: 'other', name: 'Other' });
  ({ token } = await admin.createToken({ name: 'ci', permissionSet: 'release' }));
  const source = openLayout(join(directory, 'source'));
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip), await realLayer(MEDIA_TYPE.ociLayer)];
  await storeRealImage(source, layers, { tag: 'v1' });
  for (const name of NAMES) await latchkey('keygen', name);
  await done('encrypt', 'oci:source:v1', 'oci:jwe:1', ...to('isv', 'one', 'two'));
  await done('encrypt', 'oci:source:v1', 'oci:licensed:1', '--product', 'acme', ...to('isv'));
});

afterAll(async () => {
  await registry.stop();
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

beforeEach(() => {
  registry.requests.length = 0;
});

describe('list', () => {
  test('numbers envelopes and the recipients inside of them', async () => {
    expect(names(await list('oci:jwe:1'))).toEqual([
      ['jwe#1.1', 'jwe#1.2', 'jwe#1.3'],
      ['jwe#1.1', 'jwe#1.2', 'jwe#1.3'],
    ]);
    const licensed = await list('oci:licensed:1');
    expect(names(licensed)[0]).toEqual(['jwe#1', 'provider.latchkey#1']);
    expect(licensed.layers[0]!.recipients[1]!.imageKeyId).toMatch(/^ik-/);
  });

  test('a plain image has none', async () => {
    const result = await latchkey('recipients', 'list', 'oci:source:v1');
    expect(result).toMatchObject({
      status: 65,
      stderr: expect.stringContaining('no encrypted layer') as string,
    });
  });
});

describe.skipIf(reason !== '')(`with skopeo as the recipient${reason}`, () => {
  test('add: the new one decrypts, and so do the old ones; layers are the same', async () => {
    await done('recipients', 'add', 'oci:jwe:1', 'oci:added:1', '--key', 'one.pem', ...to('new'));
    const [before, after] = [await list('oci:jwe:1'), await list('oci:added:1')];
    expect(names(after)[0]).toEqual([...names(before)[0]!, 'jwe#2']);
    expect(after.layers.map(({ digest }) => digest)).toEqual(before.layers.map(({ digest }) => digest));
    expect(after.digest).not.toBe(before.digest);
    for (const key of ['new', 'one', 'two']) expect(await skopeoOpens('oci:added:1', key)).toBe(true);
    expect(await skopeoOpens('oci:jwe:1', 'new')).toBe(false);
  });

  test('add pushes no layer to a registry that has it, and mounts it elsewhere', async () => {
    const image = `docker://${registry.host}/web:1`;
    await done('encrypt', 'oci:source:v1', image, ...to('isv'));
    const { layers } = await list(image);
    registry.requests.length = 0;
    await done('recipients', 'add', image, `${image}-added`, '--key', 'isv.pem', ...to('new'));
    const elsewhere = `docker://${registry.host}/elsewhere:1`;
    await done('recipients', 'add', image, elsewhere, '--key', 'isv.pem', ...to('new'));
    const digests: readonly (string | null)[] = layers.map(({ digest }) => digest);
    const touched = registry.requests.filter(
      ({ method, url }) =>
        (method === 'PUT' && digests.includes(url.searchParams.get('digest'))) ||
        (method === 'GET' && digests.some((digest) => url.pathname.endsWith(`/blobs/${digest ?? ''}`))),
    );
    expect(touched).toEqual([]);
    const mounts = registry.requests.map(({ url }) => url.searchParams.get('mount'));
    expect(mounts).toEqual(expect.arrayContaining([...digests]));
    await done('decrypt', elsewhere, 'oci:elsewhere-plain:1', '--key', 'new.pem');
  });

  test('remove: the removed one is refused by the new image, the kept one opens it; diff IDs stay', async () => {
    const args = ['jwe#1.2', 'jwe#1.3', '--key', 'isv.pem', ...to('isv')];
    await done('recipients', 'remove', 'oci:jwe:1', 'oci:removed:1', ...args);
    expect(await skopeoOpens('oci:removed:1', 'isv')).toBe(true);
    expect(await skopeoOpens('oci:removed:1', 'one')).toBe(false);
    const [before, after] = await Promise.all([plainTree('oci:jwe:1'), plainTree('oci:removed:1')]);
    expect(after).toEqual(before);
    const [old, now] = [await list('oci:jwe:1'), await list('oci:removed:1')];
    expect(now.layers.some(({ digest }) => old.layers.some((layer) => layer.digest === digest))).toBe(false);
  });

  test('remove --keep-layer-keys drops one recipient of an envelope and says what that is worth', async () => {
    const args = ['recipients', 'remove', 'oci:jwe:1', 'oci:dropped:1', 'jwe#1.2', '--keep-layer-keys'];
    const { notes } = await done<{ notes: string[] }>(...args);
    expect(notes).toEqual([
      expect.stringContaining('can still decrypt'),
      expect.stringContaining('nobody can verify this image'),
    ]);
    expect(names(await list('oci:dropped:1'))[0]).toEqual(['jwe#1.1', 'jwe#1.2']);
    expect(await skopeoOpens('oci:dropped:1', 'isv')).toBe(true);
    expect(await skopeoOpens('oci:dropped:1', 'one')).toBe(false);
    expect(await skopeoOpens('oci:dropped:1', 'two')).toBe(true);
  });

  /** The decrypted image: its layers with their salt, and their diff IDs. */
  async function plainTree(image: string): Promise<string[]> {
    const target = `${image.replaceAll(/\W/g, '-')}-plain`;
    await done('decrypt', image, `oci:${target}:1`, '--key', 'isv.pem');
    const { bytes } = await openLayout(join(directory, target)).readManifest('1');
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as {
      config: { digest: string };
      layers: { digest: string }[];
    };
    return [manifest.config.digest, ...manifest.layers.map(({ digest }) => digest)];
  }
});

describe('license holders', () => {
  test('rewrap registers the same layers under a new image key', async () => {
    await done('recipients', 'rewrap', 'oci:licensed:1', 'oci:rewrapped:1', '--product', 'acme');
    const [before, after] = [await list('oci:licensed:1'), await list('oci:rewrapped:1')];
    expect(after.layers.map(({ digest }) => digest)).toEqual(before.layers.map(({ digest }) => digest));
    expect(names(after)).toEqual(names(before));
    const keys = (listed: Listed) => listed.layers.map(({ recipients }) => recipients[1]!.imageKeyId);
    expect(new Set([...keys(before), ...keys(after)]).size).toBe(2);
    const releases = await adminClient(server).releases();
    const release = releases.find(({ imageKeyId }) => imageKeyId === keys(after)[0]);
    expect(release).toMatchObject({ productCode: 'acme', imageDigests: [after.digest], state: 'PUBLISHED' });
  });

  test('add --product lets them in, remove --product keeps them', async () => {
    const args = ['--product', 'acme', '--key', 'isv.pem'];
    await done('recipients', 'add', 'oci:jwe:1', 'oci:let-in:1', ...args);
    expect(names(await list('oci:let-in:1'))[0]!.at(-1)).toBe('provider.latchkey#1');
    const kept = ['oci:let-in:1', 'oci:kept:1', 'jwe#1', ...args];
    await done('recipients', 'remove', ...kept);
    const after = await list('oci:kept:1');
    expect(names(after)).toEqual([['provider.latchkey#1'], ['provider.latchkey#1']]);
    const releases = await adminClient(server).releases();
    expect(releases.map(({ imageDigests }) => imageDigests)).toContainEqual([after.digest]);
  });

  test('a dropped recipient leaves them their release', async () => {
    const args = ['jwe#1', '--keep-layer-keys', '--product', 'acme'];
    await done('recipients', 'remove', 'oci:licensed:1', 'oci:licensed-dropped:1', ...args);
    expect(names(await list('oci:licensed-dropped:1'))[0]).toEqual(['provider.latchkey#1']);
  });

  test('of another product are not let in by re-wrapping', async () => {
    const result = await latchkey('recipients', 'rewrap', 'oci:licensed:1', 'oci:no:1', '--product', 'other');
    expect(result).toMatchObject({
      status: 66,
      stderr: expect.stringContaining('not one of a registered') as string,
    });
    expect(existsSync(join(directory, 'no', 'index.json'))).toBe(false);
  });

  test('are not locked out by accident', async () => {
    const add = await latchkey(
      'recipients',
      'add',
      'oci:licensed:1',
      'oci:no:1',
      '--key',
      'isv.pem',
      ...to('new'),
    );
    expect(add).toMatchObject({ status: 2, stderr: expect.stringContaining('--product') as string });
    const args = ['jwe#1', '--key', 'isv.pem', ...to('new')];
    const remove = await latchkey('recipients', 'remove', 'oci:licensed:1', 'oci:no:1', ...args);
    expect(remove).toMatchObject({ status: 2, stderr: expect.stringContaining('locked out') as string });
  });
});

describe('mistakes get one line', () => {
  test.each([
    [
      'a name that is none',
      ['remove', 'oci:jwe:1', 'oci:no:1', 'jwe', '--keep-layer-keys'],
      2,
      'does not name a recipient',
    ],
    [
      'a recipient that is not there',
      ['remove', 'oci:jwe:1', 'oci:no:1', 'jwe#9', '--keep-layer-keys'],
      66,
      'jwe#9',
    ],
    [
      'nobody is left',
      ['remove', 'oci:jwe:1', 'oci:no:1', 'jwe#1', '--keep-layer-keys'],
      2,
      'nobody could open',
    ],
    [
      'nobody is given again',
      ['remove', 'oci:jwe:1', 'oci:no:1', 'jwe#1', '--key', 'isv.pem'],
      2,
      'nobody could open',
    ],
    [
      'too few are given again',
      ['remove', 'oci:jwe:1', 'oci:no:1', 'jwe#1.1', '--key', 'isv.pem', '--recipient', 'jwe:one.pub.pem'],
      2,
      'would stay',
    ],
    ['no key', ['remove', 'oci:jwe:1', 'oci:no:1', 'jwe#1.1', '--recipient', 'jwe:one.pub.pem'], 2, '--key'],
    [
      'a key that opens nothing',
      ['add', 'oci:jwe:1', 'oci:no:1', '--key', 'new.pem', '--recipient', 'jwe:new.pub.pem'],
      77,
      'no key opens layer 0',
    ],
    ['nobody to add', ['add', 'oci:jwe:1', 'oci:no:1', '--key', 'isv.pem'], 2, 'nobody is to be added'],
    [
      'nothing to re-wrap',
      ['rewrap', 'oci:jwe:1', 'oci:no:1', '--product', 'acme'],
      65,
      'nothing to re-wrap',
    ],
  ])('%s', async (_name, args, status, message) => {
    const result = await latchkey('recipients', ...args);
    expect(result).toMatchObject({ status, stderr: expect.stringContaining(message) as string });
    expect(existsSync(join(directory, 'no', 'index.json'))).toBe(false);
  });
});

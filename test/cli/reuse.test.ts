/** `latchkey encrypt --reuse-from`: a second release of which customers download only what is new. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { inspectImage } from '#src/image/inspect.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { type FakeRegistry, startFakeRegistry } from '../fakes/registry.ts';
import { adminClient } from '../fakes/sold-product.ts';
import { type RealLayer, realLayer, storeRealImage } from '../image/real-image.ts';

let directory: string;
let server: TestKeyServer;
let registry: FakeRegistry;
let token: string;
let layers: { base: RealLayer; old: RealLayer; fresh: RealLayer };

interface Summary {
  readonly digest: string;
  readonly imageKeyId: string;
  readonly totals: { readonly encryptedBytes: number; readonly reusedBytes: number };
  readonly platforms: { layers: { reuse?: string; reason: string }[] }[];
  readonly notes: string[];
}

function latchkey(...args: string[]) {
  const env = { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: token };
  return runLatchkey([...args, '--json'], { directory, env });
}

async function encrypt(...args: string[]): Promise<Summary> {
  const { stdout, stderr } = await latchkey('encrypt', ...args);
  expect(stderr).toBe('');
  return JSON.parse(stdout) as Summary;
}

const reused = ({ platforms }: Summary) =>
  platforms.map((platform) => platform.layers.map(({ reuse }) => reuse));
const image = (name: string) => `docker://${registry.host}/${name}`;

async function layersOf(name: string) {
  const store = openRegistry(parseReference(`${registry.host}/${name}`));
  return (await inspectImage(await readImageGraph(store, undefined))).platforms[0]!.layers;
}

/** Blobs that were uploaded since the last call. */
function uploads(): string[] {
  const requests = registry.requests.splice(0);
  return requests
    .filter(({ method, url }) => method === 'PUT' && url.pathname.includes('/blobs/uploads/'))
    .map(({ url }) => url.searchParams.get('digest') ?? '');
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-reuse-'));
  [server, registry] = await Promise.all([startKeyServer(), startFakeRegistry()]);
  const admin = adminClient(server);
  await admin.createProduct({ code: 'acme', name: 'Acme' });
  await admin.createProduct({ code: 'other', name: 'Other' });
  ({ token } = await admin.createToken({ name: 'ci', permissionSet: 'release' }));
  layers = {
    base: await realLayer(MEDIA_TYPE.ociLayerGzip),
    old: await realLayer(MEDIA_TYPE.ociLayerGzip),
    fresh: await realLayer(MEDIA_TYPE.ociLayerGzip),
  };
  const source = openLayout(join(directory, 'source'));
  await storeRealImage(source, [layers.base, layers.old], { tag: 'v1' });
  await storeRealImage(source, [layers.base, layers.fresh], { tag: 'v2' });
  for (const name of ['isv', 'customer']) await latchkey('keygen', name);
  await encrypt('oci:source:v1', image('web:1'), '--product', 'acme', '--recipient', 'jwe:isv.pub.pem');
});

afterAll(async () => {
  await registry.stop();
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

beforeEach(() => {
  registry.requests.length = 0;
});

describe('with the layer keys in the key server', () => {
  test('takes over what did not change: no byte of it is read or uploaded', async () => {
    const [oldBase] = await layersOf('web:1');
    registry.requests.length = 0;
    const summary = await encrypt(
      'oci:source:v2',
      image('web:2'),
      '--product',
      'acme',
      '--reuse-from',
      image('web:1'),
    );
    expect(reused(summary)).toEqual([[oldBase!.digest, undefined]]);
    expect(summary.platforms[0]!.layers[0]!.reason).toBe(`unchanged since ${image('web:1')}`);
    const gets = registry.requests.filter(
      ({ method, url }) => method === 'GET' && url.pathname.includes('/blobs/'),
    );
    expect(gets.map(({ url }) => url.pathname)).not.toContainEqual(expect.stringContaining(oldBase!.digest));
    expect(uploads()).not.toContain(oldBase!.digest);
    const [base, fresh] = await layersOf('web:2');
    expect(base).toMatchObject({ digest: oldBase!.digest, diffId: oldBase!.diffId, problem: undefined });
    expect(base!.recipients).toEqual([expect.objectContaining({ imageKeyId: summary.imageKeyId })]);
    expect(fresh!.recipients).toEqual(base!.recipients);
  });

  test('has the registry mount it into another repository', async () => {
    const [oldBase] = await layersOf('web:1');
    registry.requests.length = 0;
    await encrypt('oci:source:v2', image('elsewhere:2'), '--product', 'acme', '--reuse-from', image('web:1'));
    const mounts = registry.requests.flatMap(({ url }) => url.searchParams.get('mount') ?? []);
    expect(mounts).toContain(oldBase!.digest);
    expect(uploads()).not.toContain(oldBase!.digest);
    expect((await layersOf('elsewhere:2'))[0]!.digest).toBe(oldBase!.digest);
  });

  test('reuses what was reused, and copies it to a layout', async () => {
    const [oldBase] = await layersOf('web:1');
    await encrypt('oci:source:v2', image('web:2b'), '--product', 'acme', '--reuse-from', image('web:1'));
    const summary = await encrypt(
      'oci:source:v2',
      'oci:out:3',
      '--product',
      'acme',
      '--reuse-from',
      image('web:2b'),
    );
    expect(reused(summary)[0]![0]).toBe(oldBase!.digest);
    expect(summary.totals.encryptedBytes).toBe(0);
    const graph = await readImageGraph(openLayout(join(directory, 'out')), '3');
    for (const { digest, sizeBytes } of (await inspectImage(graph)).platforms[0]!.layers) {
      expect(
        await openLayout(join(directory, 'out')).hasBlob({ mediaType: '', digest, size: sizeBytes }),
      ).toBe(true);
    }
  });

  test('salted and unsalted layers do not stand for each other', async () => {
    const args = ['--product', 'acme', '--reuse-from', image('web:1'), '--keep-diff-ids'];
    expect(reused(await encrypt('oci:source:v2', image('web:2c'), ...args))).toEqual([
      [undefined, undefined],
    ]);
  });

  test('another platform than the earlier one is encrypted anew, where its layers differ', async () => {
    const source = openLayout(join(directory, 'source'));
    await storeRealImage(source, [layers.base, layers.fresh], { tag: 'arm', architecture: 'arm64' });
    const [oldBase] = await layersOf('web:1');
    const summary = await encrypt(
      'oci:source:arm',
      image('web:arm'),
      '--product',
      'acme',
      '--reuse-from',
      image('web:1'),
    );
    expect(reused(summary)).toEqual([[oldBase!.digest, undefined]]);
    expect(summary.notes).toContainEqual(expect.stringContaining('no image for linux/arm64'));
  });

  test.each([
    ['a plain image', () => ['oci:source:v1'], 65, 'no encrypted layer to reuse'],
    ['an image that was changed', async () => [await changedImage()], 66, 'not one of a registered image'],
  ])('%s is refused before any work', async (_name, from, status, message) => {
    const [name] = await from();
    const result = await latchkey(
      'encrypt',
      'oci:source:v2',
      image('no:1'),
      '--product',
      'acme',
      '--reuse-from',
      name!,
    );
    expect(result).toMatchObject({ status, stderr: expect.stringContaining(message) as string });
    expect(registry.manifests.has('no@1')).toBe(false);
  });

  test('an image of another product is refused', async () => {
    const args = ['--product', 'other', '--reuse-from', image('web:1')];
    const result = await latchkey('encrypt', 'oci:source:v2', image('no:1'), ...args);
    expect(result).toMatchObject({
      status: 66,
      stderr: expect.stringContaining('must be a published release of other') as string,
    });
  });

  /** What somebody with the registry could do: another layer in the place of a registered one. */
  async function changedImage(): Promise<string> {
    const store = openRegistry(parseReference(`${registry.host}/web:1`));
    const { bytes } = await store.readManifest();
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as {
      layers: { digest: string; size: number }[];
    };
    const [first, second] = manifest.layers;
    Object.assign(first!, { digest: second!.digest, size: second!.size });
    const forged = Buffer.from(JSON.stringify(manifest));
    registry.manifests.set('web@forged', { mediaType: MEDIA_TYPE.ociManifest, bytes: forged });
    return image('web:forged');
  }
});

describe('with a private key at hand', () => {
  test('wraps reused layers for recipients, who decrypt them', async () => {
    const pinned = `${registry.host}/web@${await digestOfTag('web:1')}`;
    const recipients = ['--recipient', 'jwe:customer.pub.pem', '--product', 'acme'];
    const reuse = ['--reuse-from', pinned, '--reuse-key', 'isv.pem'];
    const planned = await encrypt('oci:source:v2', image('web:4'), ...recipients, ...reuse, '--dry-run');
    expect(reused(planned)[0]![0]).toBe((await layersOf('web:1'))[0]!.digest);
    const summary = await encrypt('oci:source:v2', image('web:4'), ...recipients, ...reuse);
    expect(reused(summary)).toEqual(reused(planned));
    for (const key of ['customer.pem', 'isv.pem']) {
      const decrypted = await latchkey('decrypt', image('web:4'), `oci:plain-${key}:4`, '--key', key);
      expect(decrypted.status).toBe(key === 'customer.pem' ? 0 : 77);
    }
  });

  test('trusts no tag of a registry', async () => {
    const args = ['--recipient', 'jwe:isv.pub.pem', '--reuse-from', image('web:1'), '--reuse-key', 'isv.pem'];
    const result = await latchkey('encrypt', 'oci:source:v2', image('no:1'), ...args);
    expect(result).toMatchObject({ status: 2, stderr: expect.stringContaining('@sha256:') as string });
  });

  test('a key that opens nothing is refused', async () => {
    const pinned = `${registry.host}/web@${await digestOfTag('web:1')}`;
    const args = ['--recipient', 'jwe:isv.pub.pem', '--reuse-from', pinned, '--reuse-key', 'customer.pem'];
    const result = await latchkey('encrypt', 'oci:source:v2', image('no:1'), ...args);
    expect(result).toMatchObject({ status: 77, stderr: expect.stringContaining('opens no layer') as string });
  });

  async function digestOfTag(name: string): Promise<string> {
    return (await openRegistry(parseReference(`${registry.host}/${name}`)).readManifest()).descriptor.digest;
  }
});

test.each([
  [
    'recipients need a key at hand',
    ['--product', 'acme', '--recipient', 'jwe:isv.pub.pem', '--reuse-from', 'oci:source:v1'],
    '--reuse-key',
  ],
  [
    'somebody has to open the layers',
    ['--recipient', 'jwe:isv.pub.pem', '--reuse-from', 'oci:source:v1'],
    '--product',
  ],
  ['a key without an image', ['--product', 'acme', '--reuse-key', 'isv.pem'], '--reuse-from'],
])('%s', async (_name, args, hint) => {
  const result = await latchkey('encrypt', 'oci:source:v2', 'oci:none:1', ...args);
  expect(result).toMatchObject({ status: 2, stderr: expect.stringContaining(hint) as string });
});

test('a dry run without keys says that the run decides', async () => {
  const args = ['--product', 'acme', '--reuse-from', image('web:1'), '--dry-run'];
  const planned = await encrypt('oci:source:v2', 'oci:none:1', ...args);
  expect(planned.notes).toContainEqual(expect.stringContaining('the run decides'));
});

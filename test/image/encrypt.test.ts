import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LAYER_SALT_BYTES } from '#src/base/limits.ts';
import { decryptImage } from '#src/image/decrypt.ts';
import type { StagedStore } from '#src/image/encrypt-layer.ts';
import { encryptImage } from '#src/image/encrypt.ts';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { type LayerSelection, planEncryption } from '#src/image/plan.ts';
import { writeImage } from '#src/image/rewrite.ts';
import { createJweUnwrapper, createJweWrapper } from '#src/keywrap/jwe.ts';
import { digestHex, digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE, isEncrypted } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { bytesOf, fakeIndex } from '../fakes/image.ts';
import { realLayer, storeRealImage } from './real-image.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const GZIP = MEDIA_TYPE.ociLayerGzip;
const TAR = MEDIA_TYPE.ociLayer;
/** Above the size from which the hash thread is used. */
const LARGE_BYTES = 9 * 1024 * 1024 + 17;

let directory: string;
let source: StagedStore;
let encrypted: StagedStore;
let decrypted: StagedStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-encrypt-'));
  source = openLayout(join(directory, 'source'));
  encrypted = openLayout(join(directory, 'encrypted'));
  decrypted = openLayout(join(directory, 'decrypted'));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

async function encrypt(selection: LayerSelection = { kind: 'all' }, isSalted = true) {
  const graph = await readImageGraph(source, 'v1');
  const plan = planEncryption(graph, selection);
  const wrappers = [
    createJweWrapper([createPublicKey(pair.publicKey.export({ format: 'pem', type: 'spki' }))]),
  ];
  const image = await encryptImage({ source, graph, plan, destination: encrypted, wrappers, isSalted });
  await copyBlobs(source, encrypted, image.keptLayers);
  await writeImage(encrypted, image, 'v1');
  return readImageGraph(encrypted, 'v1');
}

async function decrypt(privateKey = pair.privateKey) {
  const graph = await readImageGraph(encrypted, 'v1');
  const unwrappers = [createJweUnwrapper(privateKey)];
  const image = await decryptImage({ source: encrypted, graph, destination: decrypted, unwrappers });
  await copyBlobs(encrypted, decrypted, image.keptLayers);
  await writeImage(decrypted, image, 'v1');
  return readImageGraph(decrypted, 'v1');
}

async function leftovers(): Promise<string[]> {
  const names = await readdir(join(directory, 'encrypted')).catch(() => []);
  return names.filter((name) => name.includes('partial'));
}

const raises = (code: string, message: RegExp) =>
  expect.objectContaining({
    code: expect.stringMatching(code) as string,
    message: expect.stringMatching(message) as string,
  }) as unknown as Error;

describe('encrypting and decrypting an image', () => {
  test.each([
    ['tar+gzip', GZIP, 2000],
    ['tar', TAR, 2000],
    ['large tar+gzip', GZIP, LARGE_BYTES],
    ['large tar', TAR, LARGE_BYTES],
  ])('of a %s layer gives the salted layer, and diff IDs that hold', async (_what, mediaType, sizeBytes) => {
    const layer = await realLayer(mediaType, randomBytes(sizeBytes));
    await storeRealImage(source, [layer], { tag: 'v1' });
    const [image] = platformImages(await encrypt());
    const [ciphertext] = image!.manifest.layers;
    expect(ciphertext?.mediaType).toBe(`${mediaType}+encrypted`);
    expect(image!.diffIds[0]).not.toBe(layer.diffId);
    const stored = await bytesOf(encrypted.openBlob(ciphertext!));
    expect(stored.includes(layer.bytes.subarray(0, 64))).toBe(false);

    const [plain] = platformImages(await decrypt());
    const descriptor = plain!.manifest.layers[0]!;
    const bytes = await bytesOf(decrypted.openBlob(descriptor));
    const unpacked = mediaType === GZIP ? gunzipSync(bytes) : bytes;
    const original = mediaType === GZIP ? gunzipSync(layer.bytes) : layer.bytes;
    expect(descriptor.mediaType).toBe(mediaType);
    expect(descriptor.annotations).toBeUndefined();
    expect(digestOf(unpacked)).toBe(plain!.diffIds[0]);
    expect(plain!.diffIds).toEqual(image!.diffIds);
    expect(unpacked.length).toBe(original.length + LAYER_SALT_BYTES);
    expect(unpacked.subarray(0, original.length).equals(original)).toBe(true);
  });

  test('without salt keeps diff IDs and gives the very same layer back', async () => {
    const layer = await realLayer(GZIP);
    const { descriptor } = await storeRealImage(source, [layer], { tag: 'v1' });
    const [image] = platformImages(await encrypt({ kind: 'all' }, false));
    expect(image!.diffIds).toEqual([layer.diffId]);
    expect((await decrypt()).root.descriptor.digest).toBe(descriptor.digest);
  });

  test('never uses the same key or salt twice', async () => {
    await storeRealImage(source, [await realLayer(TAR)], { tag: 'v1' });
    const [first] = platformImages(await encrypt());
    const [second] = platformImages(await encrypt());
    expect(first!.diffIds).not.toEqual(second!.diffIds);
  });

  test('keeps platforms, annotations, subject and unknown fields; Docker types become OCI types', async () => {
    const shared = await realLayer(MEDIA_TYPE.dockerLayerGzip);
    const subject = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf('subject'), size: 7 };
    const child = async (architecture: string) => ({
      ...(await storeRealImage(source, [shared, await realLayer(MEDIA_TYPE.dockerLayerGzip)], {
        architecture,
        isChild: true,
        configMediaType: MEDIA_TYPE.dockerConfig,
        manifestMediaType: MEDIA_TYPE.dockerManifest,
        manifest: { annotations: { mine: architecture }, subject, 'x-future': 1 },
        config: { 'x-config': { kept: true } },
      })),
      architecture,
    });
    const index = fakeIndex([await child('amd64'), await child('arm64')]);
    await source.writeManifest(index, 'v1');
    const graph = await encrypt({ kind: 'layers', positions: [-1] });
    expect(graph.root.descriptor.mediaType).toBe(MEDIA_TYPE.ociIndex);
    const images = platformImages(graph);
    expect(images.map((image) => image.platform.architecture)).toEqual(['amd64', 'arm64']);
    for (const image of images) {
      expect(image.manifest).toMatchObject({
        mediaType: MEDIA_TYPE.ociManifest,
        annotations: { mine: image.platform.architecture },
        subject,
        'x-future': 1,
        config: { mediaType: MEDIA_TYPE.ociConfig },
      });
      expect(image.config).toMatchObject({ 'x-config': { kept: true }, config: { Cmd: ['/bin/true'] } });
      expect(image.manifest.layers.map((layer) => layer.mediaType)).toEqual([GZIP, `${GZIP}+encrypted`]);
      expect(image.diffIds[0]).toBe(shared.diffId);
    }
  });

  test('encrypts a layer that platforms share once', async () => {
    const shared = await realLayer(GZIP);
    const children = await Promise.all(
      ['amd64', 'arm64'].map(async (architecture) => ({
        ...(await storeRealImage(source, [shared], { architecture, isChild: true })),
        architecture,
      })),
    );
    await source.writeManifest(fakeIndex(children), 'v1');
    const digests = platformImages(await encrypt()).map((image) => image.manifest.layers[0]?.digest);
    expect(new Set(digests).size).toBe(1);
  });

  test('reads a gzip of several members', async () => {
    const halves = (tar: Buffer) =>
      Buffer.concat([gzipSync(tar.subarray(0, 700)), gzipSync(tar.subarray(700))]);
    const layer = await realLayer(GZIP, randomBytes(2000), halves);
    await storeRealImage(source, [layer], { tag: 'v1' });
    await encrypt();
    const [plain] = platformImages(await decrypt());
    expect(isEncrypted(plain!.manifest.layers[0]!.mediaType)).toBe(false);
  });
});

describe('a damaged source', () => {
  const blobPath = (layer: { readonly descriptor: { readonly digest: Parameters<typeof digestHex>[0] } }) =>
    join(directory, 'source', 'blobs', 'sha256', digestHex(layer.descriptor.digest));

  test.each([2000, LARGE_BYTES])('with a flipped bit is refused (%i bytes)', async (sizeBytes) => {
    const layer = await realLayer(TAR, randomBytes(sizeBytes));
    await storeRealImage(source, [layer], { tag: 'v1' });
    layer.bytes.writeUInt8(layer.bytes.readUInt8(1500) ^ 1, 1500);
    await writeFile(blobPath(layer), layer.bytes);
    await expect(encrypt()).rejects.toThrow(raises('INPUT_DIGEST_MISMATCH', /does not have that digest/));
    await expect(encrypted.readManifest('v1')).rejects.toThrow();
    expect(await leftovers()).toEqual([]);
  });

  test.each([2000, LARGE_BYTES])(
    'with a flipped bit in its gzip is refused (%i bytes)',
    async (sizeBytes) => {
      const layer = await realLayer(GZIP, randomBytes(sizeBytes));
      await storeRealImage(source, [layer], { tag: 'v1' });
      layer.bytes.writeUInt8(layer.bytes.readUInt8(1500) ^ 1, 1500);
      await writeFile(blobPath(layer), layer.bytes);
      await expect(encrypt()).rejects.toThrow(raises('INPUT_', /not a whole gzip|unpacks to/));
      expect(await leftovers()).toEqual([]);
    },
  );

  test('with a flipped bit in the time stamp of its gzip header keeps its content and passes', async () => {
    const layer = await realLayer(GZIP);
    await storeRealImage(source, [layer], { tag: 'v1' });
    layer.bytes.writeUInt8(layer.bytes.readUInt8(4) ^ 1, 4);
    await writeFile(blobPath(layer), layer.bytes);
    await encrypt();
    const [plain] = platformImages(await decrypt());
    const bytes = gunzipSync(await bytesOf(decrypted.openBlob(plain!.manifest.layers[0]!)));
    expect(digestOf(bytes.subarray(0, -LAYER_SALT_BYTES))).toBe(layer.diffId);
  });

  test('that is cut off or too long is refused', async () => {
    const layer = await realLayer(TAR);
    await storeRealImage(source, [layer], { tag: 'v1' });
    await writeFile(blobPath(layer), layer.bytes.subarray(0, 1000));
    await expect(encrypt()).rejects.toThrow(raises('INPUT_TRUNCATED', /ends after 1000/));
    await writeFile(blobPath(layer), Buffer.concat([layer.bytes, Buffer.alloc(1)]));
    await expect(encrypt()).rejects.toThrow(raises('INPUT_DIGEST_MISMATCH', /longer/));
    expect(await leftovers()).toEqual([]);
  });

  test('whose config names another diff ID is refused', async () => {
    const layer = { ...(await realLayer(GZIP)), diffId: digestOf('other') };
    await storeRealImage(source, [layer], { tag: 'v1' });
    await expect(encrypt()).rejects.toThrow(raises('INPUT_DIGEST_MISMATCH', /layer 0 unpacks to/));
    expect(await leftovers()).toEqual([]);
  });

  test.each([2000, LARGE_BYTES])('that is no gzip is refused (%i bytes)', async (sizeBytes) => {
    const layer = await realLayer(GZIP, randomBytes(sizeBytes), (tar) => tar);
    await storeRealImage(source, [layer], { tag: 'v1' });
    await expect(encrypt()).rejects.toThrow(raises('INPUT_MALFORMED', /not a whole gzip/));
    expect(await leftovers()).toEqual([]);
  });

  test.each([
    ['text', Buffer.from('garbage')],
    ['zeros', Buffer.alloc(512)],
  ])('with %s behind its gzip is refused: readers differ about what follows', async (_what, behind) => {
    const append = (tar: Buffer) => Buffer.concat([gzipSync(tar), behind]);
    const layer = await realLayer(GZIP, randomBytes(2000), append);
    await storeRealImage(source, [layer], { tag: 'v1' });
    await expect(encrypt()).rejects.toThrow(raises('INPUT_', /not a whole gzip|unpacks to/));
    await expect(encrypt({ kind: 'all' }, false)).rejects.toThrow(raises('INPUT_', /not a whole gzip/));
  });
});

describe('decrypting', () => {
  test("with a stranger's key names who could", async () => {
    await storeRealImage(source, [await realLayer(TAR)], { tag: 'v1' });
    await encrypt();
    await expect(decrypt(stranger.privateKey)).rejects.toThrow(raises('KEY_NOT_FOUND', /wrapped by jwe/));
  });

  test('a plain image says so', async () => {
    await storeRealImage(encrypted, [await realLayer(TAR)], { tag: 'v1' });
    await expect(decrypt()).rejects.toThrow(raises('INPUT_UNSUPPORTED', /no encrypted layer/));
  });

  test('a layer exchanged for another of the same key holder fails, and leaves nothing', async () => {
    await storeRealImage(source, [await realLayer(TAR), await realLayer(TAR)], { tag: 'v1' });
    const [image] = platformImages(await encrypt());
    const [first, second] = image!.manifest.layers;
    // The attacker gives the first layer's keys to the second one's ciphertext.
    const swapped = { ...second!, annotations: first!.annotations };
    const layers = [swapped, second!];
    const { encodeImageDocument } = await import('#src/oci/document.ts');
    await encrypted.writeManifest(
      encodeImageDocument({ ...image!.manifest, mediaType: MEDIA_TYPE.ociManifest, layers }),
      'v1',
    );
    await expect(decrypt()).rejects.toThrow(raises('CRYPTO_AUTHENTICATION_FAILED', /changed after/));
    await expect(decrypted.readManifest('v1')).rejects.toThrow();
  });
});

test('an aborted run leaves nothing behind', async () => {
  await storeRealImage(source, [await realLayer(TAR, randomBytes(LARGE_BYTES))], { tag: 'v1' });
  const graph = await readImageGraph(source, 'v1');
  const controller = new AbortController();
  const run = encryptImage({
    source,
    graph,
    plan: planEncryption(graph, { kind: 'all' }),
    destination: encrypted,
    wrappers: [createJweWrapper([pair.publicKey])],
    isSalted: true,
    signal: controller.signal,
    onBytes: () => controller.abort(),
  });
  await expect(run).rejects.toThrow(raises('INTERRUPTED', /./));
  expect(await leftovers()).toEqual([]);
});

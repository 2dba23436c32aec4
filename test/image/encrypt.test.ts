import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { LAYER_SALT_BYTES } from '#src/base/limits.ts';
import { encryptImage } from '#src/image/encrypt.ts';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { planEncryption } from '#src/image/plan.ts';
import { createJweWrapper } from '#src/keywrap/jwe.ts';
import { digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE, isEncrypted } from '#src/oci/media-types.ts';
import { bytesOf, fakeIndex } from '../fakes/image.ts';
import {
  LARGE_BYTES,
  decryptAt,
  encryptAt,
  leftoversAt,
  pair,
  raises,
  useEncryptionSite,
} from './encryption-site.ts';
import { realLayer, storeRealImage } from './real-image.ts';

const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const GZIP = MEDIA_TYPE.ociLayerGzip;
const ZSTD = MEDIA_TYPE.ociLayerZstd;
const TAR = MEDIA_TYPE.ociLayer;

const site = useEncryptionSite();

/** What a runtime sees of a layer; the zstd program is the independent word on frames. */
async function unpack(bytes: Buffer, mediaType: string): Promise<Buffer> {
  if (mediaType === GZIP) return gunzipSync(bytes);
  if (mediaType !== ZSTD) return bytes;
  const path = join(site.directory, 'layer.zst');
  await writeFile(path, bytes);
  return execFileSync('zstd', ['-dc', path], { maxBuffer: 4 * LARGE_BYTES });
}

describe('encrypting and decrypting an image', () => {
  test.each([
    ['tar+gzip', GZIP, 2000],
    ['tar', TAR, 2000],
    ['tar+zstd', ZSTD, 2000],
    ['large tar+gzip', GZIP, LARGE_BYTES],
    ['large tar+zstd', ZSTD, LARGE_BYTES],
    ['large tar', TAR, LARGE_BYTES],
  ])('of a %s layer gives the salted layer, and diff IDs that hold', async (_what, mediaType, sizeBytes) => {
    const layer = await realLayer(mediaType, randomBytes(sizeBytes));
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    const [image] = platformImages(await encryptAt(site));
    const [ciphertext] = image!.manifest.layers;
    expect(ciphertext?.mediaType).toBe(`${mediaType}+encrypted`);
    expect(image!.diffIds[0]).not.toBe(layer.diffId);
    const stored = await bytesOf(site.encrypted.openBlob(ciphertext!));
    expect(stored.includes(layer.bytes.subarray(0, 64))).toBe(false);

    const [plain] = platformImages(await decryptAt(site));
    const descriptor = plain!.manifest.layers[0]!;
    const bytes = await bytesOf(site.decrypted.openBlob(descriptor));
    const unpacked = await unpack(bytes, mediaType);
    const original = await unpack(layer.bytes, mediaType);
    expect(descriptor.mediaType).toBe(mediaType);
    expect(descriptor.annotations).toBeUndefined();
    expect(digestOf(unpacked)).toBe(plain!.diffIds[0]);
    expect(plain!.diffIds).toEqual(image!.diffIds);
    expect(unpacked.length).toBe(original.length + LAYER_SALT_BYTES);
    expect(unpacked.subarray(0, original.length).equals(original)).toBe(true);
  });

  test('without salt keeps diff IDs and gives the very same layer back', async () => {
    const layer = await realLayer(GZIP);
    const { descriptor } = await storeRealImage(site.source, [layer], { tag: 'v1' });
    const [image] = platformImages(await encryptAt(site, { kind: 'all' }, false));
    expect(image!.diffIds).toEqual([layer.diffId]);
    expect((await decryptAt(site)).root.descriptor.digest).toBe(descriptor.digest);
  });

  test('drops tables of contents from the annotations of a salted layer, and no others', async () => {
    const layer = await realLayer(ZSTD);
    const annotations = {
      mine: 'kept',
      'io.github.containers.zstd-chunked.manifest-checksum': digestOf('toc'),
      'containerd.io/snapshot/stargz/toc.digest': digestOf('toc'),
      'io.containers.estargz.uncompressed-size': '3584',
    };
    const chunked = { ...layer, descriptor: { ...layer.descriptor, annotations } };
    await storeRealImage(site.source, [chunked], { tag: 'v1' });
    await encryptAt(site);
    const [salted] = platformImages(await decryptAt(site));
    expect(salted!.manifest.layers[0]?.annotations).toEqual({ mine: 'kept' });
    await encryptAt(site, { kind: 'all' }, false);
    const [kept] = platformImages(await decryptAt(site));
    expect(kept!.manifest.layers[0]?.annotations).toEqual(annotations);
  });

  test('never uses the same key or salt twice', async () => {
    await storeRealImage(site.source, [await realLayer(TAR)], { tag: 'v1' });
    const [first] = platformImages(await encryptAt(site));
    const [second] = platformImages(await encryptAt(site));
    expect(first!.diffIds).not.toEqual(second!.diffIds);
  });

  test('keeps platforms, annotations, subject and unknown fields; Docker types become OCI types', async () => {
    const shared = await realLayer(MEDIA_TYPE.dockerLayerGzip);
    const subject = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf('subject'), size: 7 };
    const child = async (architecture: string) => ({
      ...(await storeRealImage(site.source, [shared, await realLayer(MEDIA_TYPE.dockerLayerGzip)], {
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
    await site.source.writeManifest(index, 'v1');
    const graph = await encryptAt(site, { kind: 'layers', positions: [-1] });
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
        ...(await storeRealImage(site.source, [shared], { architecture, isChild: true })),
        architecture,
      })),
    );
    await site.source.writeManifest(fakeIndex(children), 'v1');
    const digests = platformImages(await encryptAt(site)).map((image) => image.manifest.layers[0]?.digest);
    expect(new Set(digests).size).toBe(1);
  });

  test('reads a gzip of several members', async () => {
    const halves = (tar: Buffer) =>
      Buffer.concat([gzipSync(tar.subarray(0, 700)), gzipSync(tar.subarray(700))]);
    const layer = await realLayer(GZIP, randomBytes(2000), halves);
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    await encryptAt(site);
    const [plain] = platformImages(await decryptAt(site));
    expect(isEncrypted(plain!.manifest.layers[0]!.mediaType)).toBe(false);
  });
});

describe('decrypting', () => {
  test("with a stranger's key names who could", async () => {
    await storeRealImage(site.source, [await realLayer(TAR)], { tag: 'v1' });
    await encryptAt(site);
    await expect(decryptAt(site, stranger.privateKey)).rejects.toThrow(
      raises('KEY_NOT_FOUND', /wrapped by jwe/),
    );
  });

  test('a plain image says so', async () => {
    await storeRealImage(site.encrypted, [await realLayer(TAR)], { tag: 'v1' });
    await expect(decryptAt(site)).rejects.toThrow(raises('INPUT_UNSUPPORTED', /no encrypted layer/));
  });

  test('a layer exchanged for another of the same key holder fails, and leaves nothing', async () => {
    await storeRealImage(site.source, [await realLayer(TAR), await realLayer(TAR)], { tag: 'v1' });
    const [image] = platformImages(await encryptAt(site));
    const [first, second] = image!.manifest.layers;
    // The attacker gives the first layer's keys to the second one's ciphertext.
    const swapped = { ...second!, annotations: first!.annotations };
    const layers = [swapped, second!];
    const { encodeImageDocument } = await import('#src/oci/document.ts');
    await site.encrypted.writeManifest(
      encodeImageDocument({ ...image!.manifest, mediaType: MEDIA_TYPE.ociManifest, layers }),
      'v1',
    );
    await expect(decryptAt(site)).rejects.toThrow(raises('CRYPTO_AUTHENTICATION_FAILED', /changed after/));
    await expect(site.decrypted.readManifest('v1')).rejects.toThrow();
  });
});

test('an aborted run leaves nothing behind', async () => {
  await storeRealImage(site.source, [await realLayer(TAR, randomBytes(LARGE_BYTES))], { tag: 'v1' });
  const graph = await readImageGraph(site.source, 'v1');
  const controller = new AbortController();
  const run = encryptImage({
    source: site.source,
    graph,
    plan: planEncryption(graph, { kind: 'all' }),
    destination: site.encrypted,
    wrappers: [createJweWrapper([pair.publicKey])],
    isSalted: true,
    signal: controller.signal,
    onBytes: () => controller.abort(),
  });
  await expect(run).rejects.toThrow(raises('INTERRUPTED', /./));
  expect(await leftoversAt(site)).toEqual([]);
});

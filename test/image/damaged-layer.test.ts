import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { LAYER_SALT_BYTES } from '#src/base/limits.ts';
import { platformImages } from '#src/image/image-graph.ts';
import { digestHex, digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { bytesOf } from '../fakes/image.ts';
import {
  LARGE_BYTES,
  decryptAt,
  encryptAt,
  leftoversAt,
  raises,
  useEncryptionSite,
} from './encryption-site.ts';
import { realLayer, storeRealImage } from './real-image.ts';

const GZIP = MEDIA_TYPE.ociLayerGzip;
const ZSTD = MEDIA_TYPE.ociLayerZstd;
const TAR = MEDIA_TYPE.ociLayer;

const site = useEncryptionSite();

describe('a damaged source', () => {
  const blobPath = (layer: { readonly descriptor: { readonly digest: Parameters<typeof digestHex>[0] } }) =>
    join(site.directory, 'source', 'blobs', 'sha256', digestHex(layer.descriptor.digest));

  test.each([2000, LARGE_BYTES])('with a flipped bit is refused (%i bytes)', async (sizeBytes) => {
    const layer = await realLayer(TAR, randomBytes(sizeBytes));
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    layer.bytes.writeUInt8(layer.bytes.readUInt8(1500) ^ 1, 1500);
    await writeFile(blobPath(layer), layer.bytes);
    await expect(encryptAt(site)).rejects.toThrow(
      raises('INPUT_DIGEST_MISMATCH', /does not have that digest/),
    );
    await expect(site.encrypted.readManifest('v1')).rejects.toThrow();
    expect(await leftoversAt(site)).toEqual([]);
  });

  test.each([2000, LARGE_BYTES])(
    'with a flipped bit in its gzip is refused (%i bytes)',
    async (sizeBytes) => {
      const layer = await realLayer(GZIP, randomBytes(sizeBytes));
      await storeRealImage(site.source, [layer], { tag: 'v1' });
      layer.bytes.writeUInt8(layer.bytes.readUInt8(1500) ^ 1, 1500);
      await writeFile(blobPath(layer), layer.bytes);
      await expect(encryptAt(site)).rejects.toThrow(raises('INPUT_', /not a whole gzip|unpacks to/));
      expect(await leftoversAt(site)).toEqual([]);
    },
  );

  test('with a flipped bit in the time stamp of its gzip header keeps its content and passes', async () => {
    const layer = await realLayer(GZIP);
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    layer.bytes.writeUInt8(layer.bytes.readUInt8(4) ^ 1, 4);
    await writeFile(blobPath(layer), layer.bytes);
    await encryptAt(site);
    const [plain] = platformImages(await decryptAt(site));
    const bytes = gunzipSync(await bytesOf(site.decrypted.openBlob(plain!.manifest.layers[0]!)));
    expect(digestOf(bytes.subarray(0, -LAYER_SALT_BYTES))).toBe(layer.diffId);
  });

  test('that is cut off or too long is refused', async () => {
    const layer = await realLayer(TAR);
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    await writeFile(blobPath(layer), layer.bytes.subarray(0, 1000));
    await expect(encryptAt(site)).rejects.toThrow(raises('INPUT_TRUNCATED', /ends after 1000/));
    await writeFile(blobPath(layer), Buffer.concat([layer.bytes, Buffer.alloc(1)]));
    await expect(encryptAt(site)).rejects.toThrow(raises('INPUT_DIGEST_MISMATCH', /longer/));
    expect(await leftoversAt(site)).toEqual([]);
  });

  test('whose config names another diff ID is refused', async () => {
    const layer = { ...(await realLayer(GZIP)), diffId: digestOf('other') };
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    await expect(encryptAt(site)).rejects.toThrow(raises('INPUT_DIGEST_MISMATCH', /layer 0 unpacks to/));
    expect(await leftoversAt(site)).toEqual([]);
  });

  test.each([2000, LARGE_BYTES])('that is no gzip is refused (%i bytes)', async (sizeBytes) => {
    const layer = await realLayer(GZIP, randomBytes(sizeBytes), (tar) => tar);
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    await expect(encryptAt(site)).rejects.toThrow(raises('INPUT_MALFORMED', /not a whole gzip/));
    expect(await leftoversAt(site)).toEqual([]);
  });

  test.each([
    ['text', Buffer.from('garbage')],
    ['zeros', Buffer.alloc(512)],
  ])('with %s behind its gzip is refused: readers differ about what follows', async (_what, behind) => {
    const append = (tar: Buffer) => Buffer.concat([gzipSync(tar), behind]);
    const layer = await realLayer(GZIP, randomBytes(2000), append);
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    await expect(encryptAt(site)).rejects.toThrow(raises('INPUT_', /not a whole gzip|unpacks to/));
  });

  test.each([GZIP, ZSTD])('with a flipped bit is refused without salt, too (%s)', async (mediaType) => {
    const layer = await realLayer(mediaType);
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    layer.bytes.writeUInt8(layer.bytes.readUInt8(1500) ^ 1, 1500);
    await writeFile(blobPath(layer), layer.bytes);
    const run = encryptAt(site, { kind: 'all' }, false);
    await expect(run).rejects.toThrow(raises('INPUT_DIGEST_MISMATCH', /does not have that digest/));
    expect(await leftoversAt(site)).toEqual([]);
  });

  test.each([
    ['text', Buffer.from('garbage')],
    ['zeros', Buffer.alloc(512)],
    ['part of a frame', zstdCompressSync(Buffer.alloc(100)).subarray(0, -1)],
  ])('with %s behind its zstd is refused', async (_what, behind) => {
    const append = (tar: Buffer) => Buffer.concat([zstdCompressSync(tar), behind]);
    const layer = await realLayer(ZSTD, randomBytes(2000), append);
    await storeRealImage(site.source, [layer], { tag: 'v1' });
    await expect(encryptAt(site)).rejects.toThrow(raises('INPUT_', /not a whole zstd|unpacks to/));
    expect(await leftoversAt(site)).toEqual([]);
  });
});

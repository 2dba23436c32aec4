/** Attacks on an encrypted image, one by one: what decrypting refuses, and what only the signed statement can tell. */
import { generateKeyPairSync } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { describeGraph } from '#src/image/describe-image.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { type Alteration, releaseAlterations } from '#src/image/statement-match.ts';
import { digestOf, type Digest } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { type DecryptedInMemory, decryptInMemory } from './decrypt-in-memory.ts';
import { type EncryptedFixture, ownFixture, sourceOf, unpacked } from './encrypted-fixture.ts';
import { type OpenedImage, closeImage, openFixture, ownLayer, storeBlob } from './opened-image.ts';
import { skopeoFixture } from './skopeo-fixture.ts';

/** Positions of encrypted layers in both fixtures: two of tar+gzip in ours, tar+gzip and tar+zstd in skopeo's. */
const [FIRST, SECOND] = [1, 2];
const EVIL = Buffer.from('what the attacker wants to run');

let ours: EncryptedFixture;
let foreign: EncryptedFixture;
let theirs: EncryptedFixture;

beforeAll(async () => {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  [ours, foreign, theirs] = [
    await ownFixture('ours', pair),
    await ownFixture('foreign', pair),
    await skopeoFixture(),
  ];
});

const refused = expect.objectContaining({ code: 'INPUT_DIGEST_MISMATCH' }) as unknown;

function forge(fixture: EncryptedFixture, change: (image: OpenedImage) => void): OpenedImage {
  const opened = openFixture(fixture);
  change(opened);
  return opened;
}

function decrypt(image: OpenedImage, fixture: EncryptedFixture): Promise<DecryptedInMemory> {
  const { blobs, root } = closeImage(image);
  const source = sourceOf(blobs);
  return readImageGraph(source, root).then((graph) => decryptInMemory(source, graph, fixture.unwrappers));
}

/** What `latchkey verify` and the node agent find, by the signed statement of the released image. */
async function found(image: OpenedImage, fixture: EncryptedFixture): Promise<Alteration['kind'][]> {
  const { blobs, root } = closeImage(image);
  const graph = await readImageGraph(sourceOf(blobs), root);
  return releaseAlterations(fixture.statement, describeGraph(graph)).map(({ kind }) => kind);
}

function swap(list: unknown[]): void {
  [list[FIRST], list[SECOND]] = [list[SECOND], list[FIRST]];
}

describe('decrypting refuses', () => {
  test.each(['ours', "skopeo's"])('layers that changed places (%s)', async (which) => {
    const fixture = which === 'ours' ? ours : theirs;
    const image = forge(fixture, ({ images: [first] }) => swap(first!.manifest.layers));
    await expect(decrypt(image, fixture)).rejects.toEqual(refused);
  });

  test('a layer of another image for the same recipient', async () => {
    const image = forge(ours, ({ images: [first], blobs }) => {
      first!.manifest.layers[FIRST] = openFixture(foreign).images[0]!.manifest.layers[FIRST]!;
      for (const [digest, bytes] of foreign.blobs) blobs.set(digest, bytes);
    });
    await expect(decrypt(image, ours)).rejects.toEqual(refused);
  });

  test.each([
    ['tar', MEDIA_TYPE.ociLayer, (tar: Buffer) => tar],
    ['tar+gzip', MEDIA_TYPE.ociLayerGzip, (tar: Buffer) => gzipSync(tar)],
    ['tar+zstd', MEDIA_TYPE.ociLayerZstd, (tar: Buffer) => zstdCompressSync(tar)],
  ])("an attacker's own %s layer in the place of another", async (_what, mediaType, pack) => {
    const forged = await ownLayer(ours.publicKey, pack(EVIL), { plainDigest: digestOf(EVIL) });
    const image = forge(ours, (opened) => {
      const layer = opened.images[0]!.manifest.layers[FIRST]!;
      Object.assign(layer, { mediaType: `${mediaType}+encrypted`, annotations: forged.annotations });
      storeBlob(opened, layer, forged.ciphertext);
    });
    await expect(decrypt(image, ours)).rejects.toEqual(refused);
  });

  test('an own tar layer that claims to be another', async () => {
    const forged = await ownLayer(ours.publicKey, EVIL, claimsOf(ours));
    const image = forge(ours, (opened) => {
      const layer = opened.images[0]!.manifest.layers[FIRST]!;
      Object.assign(layer, {
        mediaType: `${MEDIA_TYPE.ociLayer}+encrypted`,
        annotations: forged.annotations,
      });
      storeBlob(opened, layer, forged.ciphertext);
    });
    await expect(decrypt(image, ours)).rejects.toEqual(refused);
  });

  test('one blob under two media types', async () => {
    const image = forge(ours, ({ images: [first] }) => {
      const { layers } = first!.manifest;
      layers[SECOND] = { ...layers[FIRST]!, mediaType: `${MEDIA_TYPE.ociLayerZstd}+encrypted` };
      first!.config.rootfs.diff_ids[SECOND] = first!.config.rootfs.diff_ids[FIRST]!;
    });
    await expect(decrypt(image, ours)).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
  });

  test('plaintext under the name of ciphertext', async () => {
    const image = forge(ours, (opened) => {
      storeBlob(opened, opened.images[0]!.manifest.layers[FIRST]!, gzipSync(EVIL));
    });
    await expect(decrypt(image, ours)).rejects.toMatchObject({ code: 'CRYPTO_AUTHENTICATION_FAILED' });
  });
});

describe('only the signed statement refuses', () => {
  test('layers that changed places together with their diff IDs', async () => {
    const image = forge(ours, ({ images: [first] }) => {
      swap(first!.manifest.layers);
      swap(first!.config.rootfs.diff_ids);
    });
    await decrypt(image, ours);
    expect(await found(image, ours)).toContain('layers-reordered');
  });

  test('a layer that was dropped together with its diff ID', async () => {
    const image = forge(ours, ({ images: [first] }) => {
      first!.manifest.layers.splice(FIRST, 1);
      first!.config.rootfs.diff_ids.splice(FIRST, 1);
    });
    await decrypt(image, ours);
    expect(await found(image, ours)).toContain('layer-dropped');
  });

  test('a plain layer in the place of an encrypted one', async () => {
    const image = forge(ours, (opened) => {
      const layer = opened.images[0]!.manifest.layers[FIRST]!;
      Object.assign(layer, { mediaType: MEDIA_TYPE.ociLayer, annotations: {} });
      storeBlob(opened, layer, EVIL);
      opened.images[0]!.config.rootfs.diff_ids[FIRST] = digestOf(EVIL);
    });
    await decrypt(image, ours);
    expect(await found(image, ours)).toContain('layer-plain');
  });

  test('another command in the config', async () => {
    const image = forge(ours, ({ images: [first] }) => {
      first!.config['config'] = { Entrypoint: ['/bin/sh', '-c', 'exfiltrate'] };
    });
    await decrypt(image, ours);
    expect(await found(image, ours)).toContain('foreign-config');
  });

  test('the image of one platform for that of another', async () => {
    const image = forge(ours, ({ index }) => {
      const [first, second] = index!.manifests;
      [first!.platform, second!.platform] = [second!.platform, first!.platform];
    });
    await decrypt(image, ours);
    expect(await found(image, ours)).toContain('replaced-platform');
  });

  test('an image that an attacker has made whole, for the public key of the recipient', async () => {
    const forged = await ownLayer(ours.publicKey, EVIL, { plainDigest: undefined });
    const image = forge(ours, (opened) => {
      const layer = opened.images[0]!.manifest.layers[FIRST]!;
      Object.assign(layer, {
        mediaType: `${MEDIA_TYPE.ociLayer}+encrypted`,
        annotations: forged.annotations,
      });
      storeBlob(opened, layer, forged.ciphertext);
      opened.images[0]!.config.rootfs.diff_ids[FIRST] = digestOf(EVIL);
    });
    const { images, read } = await decrypt(image, ours);
    expect(await read(images[0]!.manifest.layers[FIRST]!.digest)).toEqual(EVIL);
    expect(await found(image, ours)).toContain('layer-swapped');
  });

  test('an own compressed layer that claims to be another; no runtime unpacks it', async () => {
    const forged = await ownLayer(ours.publicKey, gzipSync(EVIL), claimsOf(ours));
    const image = forge(ours, (opened) => {
      const layer = opened.images[0]!.manifest.layers[FIRST]!;
      layer.annotations = forged.annotations;
      storeBlob(opened, layer, forged.ciphertext);
    });
    const { images, read } = await decrypt(image, ours);
    const layer = images[0]!.manifest.layers[FIRST]!;
    expect(digestOf(unpacked(await read(layer.digest), layer.mediaType))).not.toBe(images[0]!.diffIds[FIRST]);
    expect(await found(image, ours)).toContain('layer-swapped');
  });
});

/** What a liar writes among the secrets of his layer: the diff ID that the config asks for. */
function claimsOf(fixture: EncryptedFixture): { plainDigest: Digest; sourceDiffId: Digest } {
  const diffId = openFixture(fixture).images[0]!.config.rootfs.diff_ids[FIRST] as Digest;
  return { plainDigest: diffId, sourceDiffId: diffId };
}

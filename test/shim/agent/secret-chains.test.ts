import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { imageLayers, parseImageManifest } from '../../../shim/agent/encrypted-image.ts';
import type { IndexedImage } from '../../../shim/agent/indexed-image.ts';
import { secretChains, recordsOf } from '../../../shim/agent/secret-chains.ts';
import {
  type EncryptedImage,
  encryptedImage,
  imageConfig,
  imageManifest,
} from '../../fakes/encrypted-image.ts';

function indexed(manifestBytes: Buffer, configBytes: Buffer): IndexedImage {
  const layers = imageLayers(parseImageManifest(manifestBytes)!, configBytes)!;
  return { digest: digestOf(manifestBytes), config: digestOf(configBytes), layers };
}

function plainLayer(plaintext: Buffer): object {
  return { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(plaintext), size: plaintext.length };
}

const [base, one, two, patch] = [randomBytes(10), randomBytes(10), randomBytes(10), randomBytes(10)];
const encrypted = encryptedImage([base, one, two]);

/** `base` plain, `one` and `two` encrypted, `patch` plain on top. */
function mixed(image: EncryptedImage = encrypted): IndexedImage {
  const manifest = JSON.parse(image.manifestBytes.toString()) as { layers: object[] };
  const layers = [plainLayer(base), ...manifest.layers.slice(1), plainLayer(patch)];
  const config = imageConfig([base, one, two, patch].map(digestOf));
  return indexed(imageManifest(config, layers), config);
}

describe('chains on encrypted layers', () => {
  test('begin with the lowest encrypted one, and what lies on top belongs to them', () => {
    const image = mixed();
    const chains = secretChains([image]);
    expect([...chains.keys()]).toEqual(image.layers.slice(1).map(({ chainId }) => chainId));
    expect([...chains.values()].map(({ images }) => images[0]?.records.length)).toEqual([1, 2, 2]);
    expect([...chains.values()].every(({ isPlainToo }) => !isPlainToo)).toBe(true);
  });

  test('are none for a plain image and for one that only others can open', () => {
    const config = imageConfig([digestOf(base)]);
    const foreign = { ...plainLayer(base), mediaType: `${MEDIA_TYPE.ociLayer}+encrypted` };
    expect(secretChains([indexed(imageManifest(config, [plainLayer(base)]), config)]).size).toBe(0);
    expect(secretChains([indexed(imageManifest(config, [foreign]), config)]).size).toBe(0);
  });

  test('say so when another image claims to have them without encryption', () => {
    const config = imageConfig([base, one].map(digestOf));
    const twin = indexed(imageManifest(config, [plainLayer(base), plainLayer(one)]), config);
    const [lower, upper] = [...secretChains([mixed(), twin]).values()];
    expect(lower).toMatchObject({ isPlainToo: true });
    expect(upper).toMatchObject({ isPlainToo: false });
  });

  test('are of all the images that have them', () => {
    const again = encryptedImage([base, one, two], { imageKeyId: 'key-2' });
    const chains = secretChains([mixed(), mixed(again)]);
    expect(chains.size).toBe(3);
    for (const { images, blobs } of chains.values()) {
      expect(images).toHaveLength(2);
      expect(blobs).toHaveLength(2);
    }
  });
});

describe('the images behind a snapshot', () => {
  const image = mixed();
  const chains = secretChains([image]);
  const names = image.layers.map(({ chainId }) => chainId);
  const snapshots = [...names, 'container'].map((name, place) => ({
    name,
    parent: names[place - 1] ?? '',
    isCommitted: name !== 'container',
    createdAtMs: 0,
    labels: {},
  }));

  test('are those of the chain that it stands on, each once', () => {
    const records = recordsOf('container', snapshots, chains);
    expect(records).toMatchObject([{ imageDigest: image.digest, imageKeyId: 'key-1' }]);
  });

  test('are none on a plain base, and none for a snapshot that nobody knows', () => {
    expect(recordsOf(names[0]!, snapshots, chains)).toEqual([]);
    expect(recordsOf('unknown', snapshots, chains)).toEqual([]);
  });
});

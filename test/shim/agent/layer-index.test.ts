import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LAYER_HEAD_BYTES } from '#src/base/limits.ts';
import { LATCHKEY_ANNOTATION } from '#src/keywrap/latchkey-element.ts';
import { digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { LayerIndex, hashHead } from '../../../shim/agent/layer-index.ts';
import { FakeContentStore, MANIFEST_LABELS } from '../../fakes/content-store.ts';
import {
  type EncryptedImage,
  encryptedImage,
  imageConfig,
  imageManifest,
  layerIdentity,
  storeEncryptedImage,
} from '../../fakes/encrypted-image.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const NAMESPACE = 'k8s.io';
const directory = temporaryDirectory();
let store: FakeContentStore;
let index: LayerIndex;

beforeEach(async () => {
  store = await FakeContentStore.start(join(directory(), 'containerd.sock'));
  index = new LayerIndex(store.connection);
});
afterEach(() => store.close());

function pulled(image: EncryptedImage): EncryptedImage {
  storeEncryptedImage(store, NAMESPACE, image);
  return image;
}

/** The plain image whose layers unpack to the same as those of an encrypted one. */
function storePlainTwin({ layers }: EncryptedImage): void {
  const configBytes = imageConfig(layers.map(({ diffId }) => diffId));
  const plain = layers.map(({ plaintext, diffId }) => {
    store.add(NAMESPACE, plaintext);
    return { mediaType: MEDIA_TYPE.ociLayer, digest: diffId, size: plaintext.length };
  });
  store.add(NAMESPACE, configBytes);
  store.add(NAMESPACE, imageManifest(configBytes, plain), MANIFEST_LABELS);
}

describe('a chain ID', () => {
  test('of a pulled image is known, with the key that opens it', async () => {
    const image = pulled(encryptedImage([randomBytes(100), randomBytes(200)]));
    for (const [place, { chainId }] of image.layers.entries()) {
      expect(await index.identify(NAMESPACE, chainId)).toEqual(layerIdentity(image, NAMESPACE, place));
    }
  });

  test('of no image is not known, nor one of another namespace', async () => {
    const image = pulled(encryptedImage([randomBytes(100)]));
    expect(await index.identify(NAMESPACE, digestOf('nothing'))).toBeUndefined();
    expect(await index.identify('default', image.layers[0]!.chainId)).toBeUndefined();
  });

  test('of an image that came later is known then; each manifest is read once', async () => {
    pulled(encryptedImage([randomBytes(100)]));
    await index.refresh(NAMESPACE);
    const later = pulled(encryptedImage([randomBytes(100)]));
    expect(await index.identify(NAMESPACE, later.layers[0]!.chainId)).toBeDefined();
    await index.refresh(NAMESPACE);
    expect(store.reads).toHaveLength(4);
    expect(new Set(store.reads).size).toBe(4);
  });

  test('of an image that was removed is forgotten', async () => {
    const image = pulled(encryptedImage([randomBytes(100)]));
    await index.refresh(NAMESPACE);
    store.remove(NAMESPACE, image.manifestDigest);
    await index.refresh(NAMESPACE);
    expect(await index.identify(NAMESPACE, image.layers[0]!.chainId)).toBeUndefined();
  });

  test('that several images share counts for each of them', async () => {
    const first = pulled(encryptedImage([randomBytes(100)]));
    const { layers, configBytes } = first;
    const descriptors = layers.map(({ mediaType, digest, ciphertext, annotations }) => ({
      mediaType,
      digest,
      size: ciphertext.length,
      annotations,
    }));
    const second = imageManifest(configBytes, descriptors)
      .toString()
      .replace('{', '{"annotations":{"a":"b"},');
    store.add(NAMESPACE, Buffer.from(second), MANIFEST_LABELS);
    const identity = await index.identify(NAMESPACE, layers[0]!.chainId);
    expect(new Set(identity?.encryptedIn.map(({ imageDigest }) => imageDigest))).toEqual(
      new Set([first.manifestDigest, digestOf(second)]),
    );
  });

  test('with a plain twin says so', async () => {
    const image = pulled(encryptedImage([randomBytes(100)]));
    storePlainTwin(image);
    expect(await index.identify(NAMESPACE, image.layers[0]!.chainId)).toMatchObject({
      layer: { encrypted: true },
      encryptedIn: [{ imageKeyId: 'key-1' }],
      plainTwin: true,
    });
  });

  test('that only others can open does not stand in the way of its plain twin', async () => {
    const image = encryptedImage([randomBytes(100)]);
    const text = image.manifestBytes.toString().replaceAll(LATCHKEY_ANNOTATION, 'org.other.keys');
    store.add(NAMESPACE, image.configBytes);
    store.add(NAMESPACE, Buffer.from(text), MANIFEST_LABELS);
    const { chainId, diffId } = image.layers[0]!;
    expect(await index.identify(NAMESPACE, chainId)).toMatchObject({
      layer: { encrypted: true },
      encryptedIn: [],
      plainTwin: false,
    });
    storePlainTwin(image);
    expect(await index.identify(NAMESPACE, chainId)).toMatchObject({
      layer: { encrypted: false, digest: diffId },
      encryptedIn: [],
    });
  });
});

describe('content that cannot be read', () => {
  test('leaves its image out until it is there, and the others in', async () => {
    const good = pulled(encryptedImage([randomBytes(100)]));
    const late = encryptedImage([randomBytes(100)]);
    store.add(NAMESPACE, late.manifestBytes, MANIFEST_LABELS);
    expect(await index.identify(NAMESPACE, good.layers[0]!.chainId)).toBeDefined();
    expect(await index.identify(NAMESPACE, late.layers[0]!.chainId)).toBeUndefined();
    store.add(NAMESPACE, late.configBytes);
    expect(await index.identify(NAMESPACE, late.layers[0]!.chainId)).toBeDefined();
  });

  test('because it was damaged on disk stops nobody else', async () => {
    const bad = encryptedImage([randomBytes(100)]);
    store.put(NAMESPACE, bad.manifestDigest, randomBytes(500), MANIFEST_LABELS);
    const good = pulled(encryptedImage([randomBytes(100)]));
    expect(await index.identify(NAMESPACE, good.layers[0]!.chainId)).toBeDefined();
    expect(await index.identify(NAMESPACE, bad.layers[0]!.chainId)).toBeUndefined();
  });

  test('because containerd is away is a failure: nothing is taken for plain', async () => {
    store.stop();
    await expect(index.identify(NAMESPACE, digestOf('x'))).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
  });

  test.each([
    ['text', Buffer.from('hello')],
    ['an artifact', Buffer.from('{"config":{},"layers":[]}')],
    ['more than a manifest may have', Buffer.alloc(5 * 1024 * 1024, 0x20)],
  ])('as an image is looked at once and left: %s', async (_case, bytes) => {
    store.add(NAMESPACE, bytes, MANIFEST_LABELS);
    const image = pulled(encryptedImage([randomBytes(100)]));
    for (let round = 0; round < 2; round += 1) {
      expect(await index.identify(NAMESPACE, image.layers[0]!.chainId)).toBeDefined();
      await index.refresh(NAMESPACE);
    }
    expect(store.reads.filter((digest) => digest === digestOf(bytes)).length).toBeLessThanOrEqual(1);
  });
});

describe('a head', () => {
  test.each([0, 1, LAYER_HEAD_BYTES, 100_000])('of a blob of %i bytes is hashed once', async (size) => {
    const bytes = randomBytes(size);
    const digest = store.add(NAMESPACE, bytes);
    expect(await index.headHash(NAMESPACE, digest)).toBe(hashHead(bytes));
    await index.headHash(NAMESPACE, digest);
    expect(store.reads).toEqual([digest]);
  });

  test('of a blob that is not there is a failure, and is found once it is', async () => {
    const bytes = randomBytes(100);
    await expect(index.headHash(NAMESPACE, digestOf(bytes))).rejects.toThrow();
    store.add(NAMESPACE, bytes);
    expect(await index.headHash(NAMESPACE, digestOf(bytes))).toBe(hashHead(bytes));
  });

  test('that was foreseen is not read again, and one that came later is', async () => {
    const [there, later] = [randomBytes(100), randomBytes(100)];
    const digest = store.add(NAMESPACE, there);
    index.foresee(NAMESPACE, [digest, digestOf(later)]);
    index.foresee(NAMESPACE, [digest]);
    expect(await index.headHash(NAMESPACE, digest)).toBe(hashHead(there));
    store.add(NAMESPACE, later);
    expect(await index.headHash(NAMESPACE, digestOf(later))).toBe(hashHead(later));
    expect(store.reads.filter((read) => read === digest)).toHaveLength(1);
  });

  test('finds whom to ask', async () => {
    const image = pulled(encryptedImage([randomBytes(9000)], { contact: 'ask@acme' }));
    await index.refreshAll();
    expect(await index.contactByHead(image.layers[0]!.ciphertext.subarray(0, LAYER_HEAD_BYTES))).toBe(
      'ask@acme',
    );
    expect(await index.contactByHead(randomBytes(100))).toBeUndefined();
  });
});

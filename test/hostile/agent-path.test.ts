/** The way of a mutated image on a node: what the agent reads of it, compares, and what its cipher lets through. */
import fc from 'fast-check';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { LayerDecryptor } from '#src/crypto/layer-cipher.ts';
import { parsePrivateOptions, parsePublicOptions } from '#src/crypto/layer-options.ts';
import { imageAlterations } from '#src/image/statement-match.ts';
import { openElement, parseElement } from '#src/keywrap/latchkey-element.ts';
import type { Digest } from '#src/oci/digest.ts';
import { imageLayers, parseImageManifest } from '../../shim/agent/encrypted-image.ts';
import { LayerIndex } from '../../shim/agent/layer-index.ts';
import { FakeContentStore, MANIFEST_LABELS } from '../fakes/content-store.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';
import { type EncryptedFixture, ownFixture } from './encrypted-fixture.ts';
import { RUNS } from './hostile-values.ts';
import { imageMutations, mutateImage } from './image-mutations.ts';
import { type OpenedImage, closeImage, openFixture } from './opened-image.ts';

const NAMESPACE = 'k8s.io';
const PLATFORM = { os: 'linux', architecture: 'amd64' };
const IMAGE_KEY = new Uint8Array(32).fill(9);
const directory = temporaryDirectory();

let store: FakeContentStore;
let ours: EncryptedFixture;
let foreign: EncryptedFixture;

beforeAll(async () => {
  [ours, foreign] = [
    await ownFixture('ours', undefined, IMAGE_KEY),
    await ownFixture('foreign', undefined, IMAGE_KEY),
  ];
});

afterAll(() => store.close());

/** The manifests of the platforms, as a pull puts them into containerd, with everything they name. */
function pull(image: OpenedImage): {
  readonly blobs: ReadonlyMap<Digest, Uint8Array>;
  readonly manifests: Digest[];
} {
  const { blobs } = closeImage(image);
  const names = new Set(image.index!.manifests.map(({ digest }) => digest as Digest));
  for (const [digest, bytes] of blobs) {
    store.put(NAMESPACE, digest, bytes, names.has(digest) ? MANIFEST_LABELS : {});
  }
  return { blobs, manifests: [...names] };
}

/** Opens every layer with the image key, as a grant and the worker thread do. */
function checkLayers(
  blobs: ReadonlyMap<Digest, Uint8Array>,
  manifest: Digest,
  known: Map<Digest, Uint8Array>,
): void {
  const document = parseImageManifest(blobs.get(manifest)!);
  const config = document && blobs.get(document.config.digest);
  const layers = document && config && imageLayers(document, config);
  for (const { elements, publicOptions, digest } of layers ?? []) {
    for (const { encoded } of elements) {
      try {
        const element = parseElement(Buffer.from(encoded, 'base64'));
        const options = parsePrivateOptions(openElement(element, IMAGE_KEY));
        const { mac } = parsePublicOptions(Buffer.from(publicOptions, 'base64'));
        const decryptor = new LayerDecryptor(options, { mac });
        const plaintext = decryptor.update(blobs.get(digest)!);
        decryptor.verify();
        expect(options.plainDigest && Buffer.compare(plaintext, known.get(options.plainDigest)!)).toBe(0);
      } catch (error) {
        expect(error).toBeInstanceOf(LatchkeyError);
      }
    }
  }
}

describe('on a node a mutated image', () => {
  test('is told from the released one, and its layers open to what was encrypted or not at all', async () => {
    store = await FakeContentStore.start(join(directory(), 'containerd.sock'));
    const index = new LayerIndex(store.connection);
    const known = new Map([...ours.plainLayers, ...foreign.plainLayers]);
    const untouched = pull(openFixture(ours)).manifests;
    for (const digest of untouched) {
      const image = (await index.image(digest))!;
      const released = ours.statement.images.find(({ manifest }) => manifest === digest)!;
      expect(imageAlterations(ours.statement, image, released.platform)).toEqual([]);
    }
    await fc.assert(
      fc.asyncProperty(imageMutations, async (mutations) => {
        const opened = openFixture(ours);
        for (const mutation of mutations) await mutateImage(opened, mutation, ours, foreign);
        const { blobs, manifests } = pull(opened);
        for (const digest of manifests) {
          checkLayers(blobs, digest, known);
          const image = await index.image(digest);
          if (image === undefined || untouched.includes(digest)) continue;
          expect(imageAlterations(ours.statement, image, PLATFORM)).not.toEqual([]);
        }
      }),
      { numRuns: RUNS },
    );
  });
});

import { expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { leftBehindNotes } from '#src/image/left-behind.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { storeBlob } from '../fakes/attested-image.ts';
import { realLayer, storeRealImage } from './real-image.ts';

async function imageWithReferrer() {
  const store = createMemoryStore();
  const image = await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], { tag: 'v1' });
  const empty = await storeBlob(store, MEDIA_TYPE.ociEmpty, Buffer.from('{}'));
  const referrer = encodeImageDocument({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    artifactType: 'application/spdx+json',
    config: empty,
    layers: [empty],
    subject: image.descriptor,
  });
  await store.writeManifest(referrer, undefined, { isChild: true });
  return readImageGraph(store, 'v1');
}

test('an SBOM attached to the plain image is told of', async () => {
  expect(await leftBehindNotes(await imageWithReferrer())).toEqual([
    'attached to the plain image, and left with it: application/spdx+json',
  ]);
});

test('a source that cannot tell costs no more than the note', async () => {
  const graph = await imageWithReferrer();
  const listReferrers = async () => {
    throw new LatchkeyError('NET_REGISTRY', 'no');
  };
  const source = { ...graph.source, location: 'x', listReferrers } as unknown as typeof graph.source;
  expect(await leftBehindNotes({ ...graph, source })).toEqual([]);
  const signal = AbortSignal.abort();
  await expect(leftBehindNotes({ ...graph, source }, { signal })).rejects.toThrow(LatchkeyError);
});

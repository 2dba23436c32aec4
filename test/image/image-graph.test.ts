import { expect, test } from 'vitest';
import { MAX_GRAPH_BYTES, MAX_GRAPH_MANIFESTS, MAX_INDEX_ENTRIES } from '#src/base/limits.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { ManifestBlob } from '#src/store/blob-store.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeImage, fakeIndex, storeImage } from '../fakes/image.ts';
import { realLayer, storeRealImage } from './real-image.ts';

const PADDING_BYTES = 2 * 1024 * 1024;

test('an image whose many documents together would fill the memory is refused', async () => {
  const store = createMemoryStore();
  const image = await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], { isChild: true });
  const manifest = parseManifest(image.bytes);
  const padded = async (at: number): Promise<ManifestBlob> => {
    const line = ' '.repeat(PADDING_BYTES / 64);
    const annotations = Object.fromEntries(
      Array.from({ length: 64 }, (_value, key) => [`${at}-${key}`, line]),
    );
    const blob = encodeImageDocument({ ...manifest, mediaType: MEDIA_TYPE.ociManifest, annotations });
    await store.writeManifest(blob, undefined, { isChild: true });
    return blob;
  };
  const children: ManifestBlob[] = [];
  const read = async () => {
    const index = fakeIndex(children);
    await store.writeManifest(index, 'v1');
    return readImageGraph(store, 'v1');
  };
  for (let at = 0; at < MAX_GRAPH_BYTES / PADDING_BYTES - 1; at += 1) children.push(await padded(at));
  expect((await read()).nodes).toHaveLength(children.length + 1);
  children.push(await padded(children.length), await padded(children.length + 1));
  await expect(read()).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
});

test('an image of too many manifests is refused, though no index of it is too long', async () => {
  const store = createMemoryStore();
  const innerCount = Math.ceil(MAX_GRAPH_MANIFESTS / MAX_INDEX_ENTRIES);
  const read = async (count: number) => {
    // Those of the root and of its indexes count, too.
    const images = Array.from({ length: count - 1 - innerCount }, (_value, at) => fakeImage([8], `cpu${at}`));
    for (const image of images) await storeImage(store, image, undefined, true);
    const inner = Array.from({ length: innerCount }, (_value, group) =>
      fakeIndex(images.filter((_image, at) => at % innerCount === group).map(({ manifest }) => manifest)),
    );
    for (const index of inner) await store.writeManifest(index, undefined, { isChild: true });
    await store.writeManifest(fakeIndex(inner), 'v1');
    return readImageGraph(store, 'v1');
  };
  expect((await read(MAX_GRAPH_MANIFESTS)).nodes).toHaveLength(MAX_GRAPH_MANIFESTS);
  await expect(read(MAX_GRAPH_MANIFESTS + 1)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
});

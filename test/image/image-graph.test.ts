import { expect, test } from 'vitest';
import { MAX_GRAPH_BYTES } from '#src/base/limits.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { ManifestBlob } from '#src/store/blob-store.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeIndex } from '../fakes/image.ts';
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

import { expect, test } from 'vitest';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { INDEX_FILE, LAYOUT_FILE, LayoutReader, blobName } from '#src/store/layout-reader.ts';
import { fakeImage } from '../fakes/image.ts';
import { fakeReferrer } from '../fakes/referrer.ts';

const REFERRERS = 20;

test('referrers are read once, however often a list of them is asked for', async () => {
  const image = fakeImage();
  const subject = image.manifest.descriptor;
  const referrers = Array.from({ length: REFERRERS }, (_, at) =>
    fakeReferrer(subject, 'application/vnd.example.signature', `signature ${at}`),
  );
  const manifests = [image.manifest, ...referrers.map(({ manifest }) => manifest)];
  const index = encodeImageDocument({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociIndex,
    manifests: manifests.map(({ descriptor }) => descriptor),
  });
  const files = new Map<string, Uint8Array>([
    [LAYOUT_FILE, Buffer.from('{"imageLayoutVersion":"1.0.0"}')],
    [INDEX_FILE, index.bytes],
    ...manifests.map(({ descriptor, bytes }) => [blobName(descriptor.digest), bytes] as const),
  ]);
  const reads: string[] = [];
  const reader = new LayoutReader('oci:x', {
    size: async (name) => files.get(name)?.length,
    read: async (name) => {
      if (name.startsWith('blobs/')) reads.push(name);
      return files.get(name)!;
    },
    chunks: async function* () {
      // No blob is read.
    },
    missing: () => {
      throw new TypeError('there is a layout');
    },
  });
  for (const { descriptor } of manifests) {
    const found = await reader.listReferrers(descriptor.digest);
    expect(found).toHaveLength(descriptor.digest === subject.digest ? REFERRERS : 0);
  }
  expect(new Set(reads).size).toBe(reads.length);
});

/** Whoever can push can attach, and a list of referrers is only a claim: what is read as a statement of an image. */
import { beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_STATEMENT_ENVELOPE_BYTES } from '#src/base/limits.ts';
import { attachStatement, readAttachedStatements, statementManifest } from '#src/image/statement-referrer.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobSource, BlobStore, ManifestBlob } from '#src/store/blob-store.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeImage, storeImage } from '../fakes/image.ts';

const image = fakeImage().manifest.descriptor;
const ENVELOPE = Buffer.from('{"own":true}');
const OTHER_ENVELOPE = Buffer.from('{"own":false}');

let store: BlobStore;
let own: ManifestBlob;

beforeEach(async () => {
  store = createMemoryStore();
  own = await store.readManifest(await attachStatement(store, image, ENVELOPE));
});

/** The store, with this list of what refers to the image. */
function listing(...manifests: readonly ManifestBlob[]): BlobSource {
  return {
    location: store.location,
    readManifest: (...args) => store.readManifest(...args),
    openBlob: (...args) => store.openBlob(...args),
    listReferrers: async () => manifests.map(({ descriptor }) => descriptor),
  };
}

/** A statement about the image whose envelope is not in the store, changed as wanted. */
function unstored(change: (envelope: Descriptor) => readonly Descriptor[] = (each) => [each]): ManifestBlob {
  const manifest = parseManifest(statementManifest(image, OTHER_ENVELOPE).bytes);
  const layers = manifest.layers.flatMap(change);
  return encodeImageDocument({ ...manifest, mediaType: MEDIA_TYPE.ociManifest, layers });
}

describe('a statement that cannot be read stands in nobody’s way', () => {
  test.each([
    ['its envelope is missing', unstored()],
    ['it names none', unstored(() => [])],
    ['its envelope is too large', unstored((each) => [{ ...each, size: MAX_STATEMENT_ENVELOPE_BYTES + 1 }])],
    ['it is no manifest', { descriptor: { ...image, digest: digestOf('{') }, bytes: Buffer.from('{') }],
  ])('when %s', async (_why, broken) => {
    await store.writeManifest(broken, 'broken');
    expect(await readAttachedStatements(listing(broken, own), image.digest)).toEqual([ENVELOPE]);
  });

  test('when it is listed only', async () => {
    expect(await readAttachedStatements(listing(unstored(), own), image.digest)).toEqual([ENVELOPE]);
  });
});

test('one that is about another image by its own word is not of this one, whatever the list says', async () => {
  const other = fakeImage();
  await storeImage(store, other);
  const stray = await attachStatement(store, other.manifest.descriptor, OTHER_ENVELOPE);
  const listed = listing(await store.readManifest(stray), own);
  expect(await readAttachedStatements(listed, image.digest)).toEqual([ENVELOPE]);
});

test('a registry that does not answer is not one without a statement', async () => {
  const readManifest = () => Promise.reject(new LatchkeyError('NET_UNREACHABLE', 'away'));
  const source = { ...listing(own), readManifest };
  await expect(readAttachedStatements(source, image.digest)).rejects.toMatchObject({
    code: 'NET_UNREACHABLE',
  });
});

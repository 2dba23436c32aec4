/** What an index names by a type that nobody here knows passes on as it is (OCI image spec, image-index.md). */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeGraph } from '#src/image/describe-image.ts';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { planEncryption } from '#src/image/plan.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseIndex } from '#src/oci/index.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import type { BlobStore, ManifestBlob } from '#src/store/blob-store.ts';
import { copyImage } from '#src/store/copy.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { startFakeRegistry } from '../fakes/registry.ts';
import { realLayer, storeRealImage } from './real-image.ts';
import { type RoundTrip, openRoundTrip } from './round-trip.ts';

/** OCI's own first try at artifacts, and what is not even JSON. */
const UNKNOWN: readonly (readonly [mediaType: string, bytes: Buffer])[] = [
  ['application/vnd.oci.artifact.manifest.v1+json', Buffer.from('{"blobs":[],"subject":null}')],
  ['application/vnd.acme.thing', Buffer.from([0, 1, 2, 3, 255])],
];

let trip: RoundTrip;
beforeEach(async () => (trip = await openRoundTrip()));
afterEach(() => trip.dispose());

function unknownDocument(mediaType: string, bytes: Uint8Array): ManifestBlob {
  return { descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length }, bytes };
}

async function storeWithUnknown(store: BlobStore): Promise<readonly ManifestBlob[]> {
  const image = await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayerGzip)], { isChild: true });
  const unknown = UNKNOWN.map(([mediaType, bytes]) => unknownDocument(mediaType, bytes));
  for (const document of unknown) await store.writeManifest(document, undefined, { isChild: true });
  const entries = unknown.map(({ descriptor }) => ({ ...descriptor, annotations: { note: 'kept' } }));
  const manifests = [...entries, { ...image.descriptor, platform: { os: 'linux', architecture: 'amd64' } }];
  const index = encodeImageDocument({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests });
  await store.writeManifest(index, 'v1');
  return unknown;
}

async function expectKept(store: BlobStore, unknown: readonly ManifestBlob[]): Promise<void> {
  const { manifests } = parseIndex((await store.readManifest('v1')).bytes);
  expect(manifests.slice(0, unknown.length)).toEqual(
    unknown.map(({ descriptor }) => ({ ...descriptor, annotations: { note: 'kept' } })),
  );
  for (const { descriptor, bytes } of unknown) {
    const { digest, mediaType } = descriptor;
    expect(await store.readManifest(digest, { mediaType })).toEqual({ descriptor, bytes });
  }
}

test('is kept when the image is encrypted and decrypted, is said, and is part of the release', async () => {
  const unknown = await storeWithUnknown(trip.source);
  const { notes } = planEncryption(await readImageGraph(trip.source, 'v1'), { kind: 'all' });
  expect(notes).toEqual(
    UNKNOWN.map(
      ([mediaType]) => `what the index names as ${mediaType} passes through untouched, readable by anybody`,
    ),
  );
  const graph = await trip.encrypt();
  await expectKept(trip.encrypted, unknown);
  expect(platformImages(graph)).toHaveLength(1);
  expect(describeGraph(graph).manifests).toEqual(
    expect.arrayContaining(unknown.map(({ descriptor }) => descriptor.digest)),
  );
  await trip.decrypt();
  await expectKept(trip.decrypted, unknown);
});

test('is copied, also through a registry', async () => {
  const unknown = await storeWithUnknown(trip.source);
  const registry = await startFakeRegistry();
  try {
    const remote = openRegistry(parseReference(`${registry.host}/acme:v1`));
    await copyImage(trip.source, remote, { reference: 'v1', tag: 'v1' });
    const back = createMemoryStore();
    await copyImage(remote, back, { reference: 'v1', tag: 'v1' });
    await expectKept(remote, unknown);
    await expectKept(back, unknown);
  } finally {
    await registry.stop();
  }
});

test('is not taken for an image when it is the root', async () => {
  const [[mediaType, bytes]] = UNKNOWN as [(typeof UNKNOWN)[0]];
  await trip.source.writeManifest(unknownDocument(mediaType, bytes), 'v1');
  await expect(readImageGraph(trip.source, 'v1')).rejects.toMatchObject({ code: 'INPUT_NOT_AN_IMAGE' });
});

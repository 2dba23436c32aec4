import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeArtifact } from '#src/image/attestations.ts';
import { type ImageGraph, platformImages, platformName, readImageGraph } from '#src/image/image-graph.ts';
import { parsePlatform, selectPlatforms } from '#src/image/platform-selection.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { storeAttestedImage } from '../fakes/attested-image.ts';
import { realLayer, storeRealImage } from './real-image.ts';
import { type RoundTrip, openRoundTrip } from './round-trip.ts';

let trip: RoundTrip;
beforeEach(async () => (trip = await openRoundTrip()));
afterEach(() => trip.dispose());

async function armGraph(): Promise<ImageGraph> {
  const store = createMemoryStore();
  const manifests = [];
  for (const [architecture, variant] of [['arm', 'v6'], ['arm', 'v7'], ['arm64'], ['amd64']] as const) {
    const image = await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], {
      architecture,
      isChild: true,
    });
    const platform = { os: 'linux', architecture, ...(variant === undefined ? {} : { variant }) };
    const nested = encodeImageDocument({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociIndex,
      manifests: [{ ...image.descriptor, platform }],
    });
    await store.writeManifest(nested, undefined, { isChild: true });
    manifests.push(nested.descriptor);
  }
  const index = encodeImageDocument({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests });
  await store.writeManifest(index, 'v1');
  return readImageGraph(store, 'v1');
}

const names = (graph: ImageGraph) => platformImages(graph).map(platformName);

test.each([
  [['linux/arm'], ['linux/arm/v6', 'linux/arm/v7']],
  [['linux/arm/v7'], ['linux/arm/v7']],
  [['linux/arm64/v8'], ['linux/arm64']],
  [
    ['linux/amd64', 'linux/arm64'],
    ['linux/arm64', 'linux/amd64'],
  ],
])('%j leaves %j', async (wanted, left) => {
  const graph = selectPlatforms(await armGraph(), wanted.map(parsePlatform));
  expect(names(graph)).toEqual(left);
  // An index that has nothing left goes too.
  expect(graph.nodes.filter((node) => node.kind === 'index')).toHaveLength(left.length + 1);
});

test('a platform that is not there is refused with those that are', async () => {
  const graph = await armGraph();
  expect(() => selectPlatforms(graph, [parsePlatform('windows/amd64')])).toThrow(
    expect.objectContaining({
      code: 'USAGE_INVALID',
      hint: 'it has linux/arm/v6, linux/arm/v7, linux/arm64, linux/amd64',
    }),
  );
});

test.each(['', 'linux', 'linux/', '/amd64', 'linux/arm/v7/x', 'linux amd64', 'linux/\u001b[2J'])(
  '%j is no platform',
  (text) => {
    expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: 'USAGE_INVALID' }));
  },
);

test('attestations of platforms that go, go with them', async () => {
  await storeAttestedImage(trip.source);
  const graph = selectPlatforms(await readImageGraph(trip.source, 'v1'), [parsePlatform('linux/arm64')]);
  const [image] = platformImages(graph);
  const artifacts = graph.nodes.filter((node) => node.kind === 'artifact');
  expect(artifacts.map((node) => describeArtifact(node).about)).toEqual([image!.blob.descriptor.digest]);
});

import { rm } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeArtifact } from '#src/image/attestations.ts';
import { type ImageGraph, platformImages, platformName, readImageGraph } from '#src/image/image-graph.ts';
import { parsePlatform, selectPlatforms, wantedEntries } from '#src/image/platform-selection.ts';
import { rewriteImage } from '#src/image/rewrite.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseIndex } from '#src/oci/index.ts';
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

test('what was not asked for is not even read, attestations included', async () => {
  await storeAttestedImage(trip.source);
  const { manifests } = parseIndex((await trip.source.readManifest('v1')).bytes);
  const isArm = ({ digest, platform, annotations }: (typeof manifests)[number]) =>
    platform?.architecture === 'arm64' ||
    manifests.some(
      (other) =>
        other.platform?.architecture === 'arm64' &&
        other.digest === annotations?.['vnd.docker.reference.digest'] &&
        other.digest !== digest,
    );
  const gone = manifests.filter(isArm);
  expect(gone).toHaveLength(2);
  for (const { digest } of gone) await rm(trip.source.localPath!(digest)!);
  await expect(readImageGraph(trip.source, 'v1')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });

  const amd64 = [parsePlatform('linux/amd64')];
  const read = await readImageGraph(trip.source, 'v1', { isWanted: wantedEntries(amd64) });
  const graph = selectPlatforms(read, amd64);
  expect(graph.nodes.map(({ kind }) => kind)).toEqual(['image', 'artifact', 'index']);
  const image = rewriteImage(graph, () => undefined);
  expect(parseIndex(image.root.bytes).manifests).toHaveLength(2);
});

test('one that is not there is refused with those that are, also when none was read', async () => {
  await storeAttestedImage(trip.source);
  const windows = [parsePlatform('windows/amd64')];
  const read = await readImageGraph(trip.source, 'v1', { isWanted: wantedEntries(windows) });
  expect(platformImages(read)).toEqual([]);
  expect(() => selectPlatforms(read, windows)).toThrow(
    expect.objectContaining({ code: 'USAGE_INVALID', hint: 'it has linux/amd64, linux/arm64' }),
  );
});

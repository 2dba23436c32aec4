// The second push of an image: no blob is read, no byte is sent.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { copyReferrers } from '#src/store/copy-referrers.ts';
import { copyImage } from '#src/store/copy.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import {
  dockerRegistrySkipReason,
  startDockerRegistry,
  type DockerRegistry,
} from '../../lab/docker-registry.ts';
import { fakeImage, fakeIndex, storeImage } from '../fakes/image.ts';
import { fakeReferrer, storeReferrer } from '../fakes/referrer.ts';
import { addReferrersApi } from '../fakes/registry-referrers.ts';
import { startFakeRegistry, type FakeRegistry } from '../fakes/registry.ts';
import { recordedTiming } from '../fakes/retry-timing.ts';

const READING = /^(?:GET|HEAD) /;

interface CountedSource {
  readonly store: BlobStore;
  /** Digests of the blobs that were opened. */
  readonly opened: string[];
}

/** Two platforms that share a layer, an index, and a signature for it. */
async function makeSource(): Promise<CountedSource> {
  const store = createMemoryStore();
  const [amd64, arm64] = [fakeImage([100_000, 5], 'amd64'), fakeImage([70_000], 'arm64')];
  await storeImage(store, amd64, undefined, true);
  await storeImage(store, arm64, undefined, true);
  const index = fakeIndex([
    { ...amd64.manifest, architecture: 'amd64' },
    { ...arm64.manifest, architecture: 'arm64' },
  ]);
  await store.writeManifest(index);
  await storeReferrer(store, fakeReferrer(index.descriptor, 'application/vnd.example.signature'));
  const opened: string[] = [];
  const openBlob = store.openBlob.bind(store);
  store.openBlob = (descriptor, options) => {
    opened.push(descriptor.digest);
    return openBlob(descriptor, options);
  };
  return { store, opened };
}

async function push({ store }: CountedSource, target: BlobStore): Promise<number> {
  let sentBytes = 0;
  const subjects: string[] = [];
  const onBytes = (bytes: number): void => void (sentBytes += bytes);
  const { digest } = await copyImage(store, target, {
    tag: 'v1',
    onBytes,
    onEvent: ({ descriptor }) => subjects.push(descriptor.digest),
  });
  expect(await copyReferrers(store, target, [digest], { onBytes })).toHaveLength(1);
  return sentBytes;
}

describe.each([true, false])('the fake registry (referrers API: %s)', (hasReferrers) => {
  let registry: FakeRegistry;
  beforeEach(async () => {
    registry = await startFakeRegistry();
    if (hasReferrers) addReferrersApi(registry);
  });
  afterEach(() => registry.stop());

  test('is only asked', async () => {
    const source = await makeSource();
    let receivedBytes = 0;
    registry.misbehaviours.push((_request, _response, incoming) => {
      incoming.on('data', (chunk: Buffer) => (receivedBytes += chunk.length));
      incoming.pause();
      return false;
    });
    const target = openRegistry(parseReference(`${registry.host}/team/app:v1`), { timing: recordedTiming() });
    expect(await push(source, target)).toBeGreaterThan(170_000);
    expect(receivedBytes).toBeGreaterThan(170_000);
    // Each blob was read once.
    expect(source.opened).toHaveLength(new Set(source.opened).size);
    source.opened.length = registry.requests.length = receivedBytes = 0;
    expect(await push(source, target)).toBe(0);
    expect(source.opened).toEqual([]);
    expect(receivedBytes).toBe(0);
    const requests = registry.requests.map(({ method, url }) => `${method} ${url.pathname}`);
    expect(requests.filter((request) => !READING.test(request))).toEqual([]);
    expect(requests.filter((request) => /^GET .*\/blobs\//.test(request))).toEqual([]);
    // One question for each of the five blobs and three manifests, and two for referrers at the most.
    expect(requests.filter((request) => request.startsWith('HEAD '))).toHaveLength(8);
    expect(requests.filter((request) => request.startsWith('GET ')).length).toBeLessThanOrEqual(2);
  });

  test('a moved tag is written, nothing else', async () => {
    const source = await makeSource();
    const target = openRegistry(parseReference(`${registry.host}/team/app:v1`), { timing: recordedTiming() });
    await push(source, target);
    registry.requests.length = 0;
    await copyImage(source.store, target, { tag: 'v2' });
    const written = registry.requests.filter(({ method }) => !['GET', 'HEAD'].includes(method));
    expect(written.map(({ method, url }) => `${method} ${url.pathname}`)).toEqual([
      'PUT /v2/team/app/manifests/v2',
    ]);
  });
});

const skipReason = dockerRegistrySkipReason();
describe.skipIf(skipReason !== undefined)(`docker-registry (${skipReason ?? ''})`, () => {
  let registry: DockerRegistry;
  beforeEach(async () => {
    registry = await startDockerRegistry();
  });
  afterEach(() => registry.stop());

  test('is only asked, says its access log', async () => {
    const source = await makeSource();
    const target = openRegistry(parseReference(`${registry.host}/team/app:v1`));
    expect(await push(source, target)).toBeGreaterThan(170_000);
    const before = (await registry.requests()).length;
    expect(before).toBeGreaterThan(20);
    source.opened.length = 0;
    expect(await push(source, target)).toBe(0);
    expect(source.opened).toEqual([]);
    const requests = (await registry.requests()).slice(before);
    expect(requests.length).toBeGreaterThanOrEqual(8);
    expect(requests.filter((request) => !READING.test(request))).toEqual([]);
    expect(requests.filter((request) => /^GET .*\/blobs\//.test(request))).toEqual([]);
  });
});

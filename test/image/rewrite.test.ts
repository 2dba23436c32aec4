import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { platformImages } from '#src/image/image-graph.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { bytesOf } from '../fakes/image.ts';
import { type RealLayer, realLayer, storeRealImage } from './real-image.ts';
import { type RoundTrip, openRoundTrip } from './round-trip.ts';

const GZIP = MEDIA_TYPE.ociLayerGzip;
const OCI = 'application/vnd.oci.image.layer.v1.tar';
const NONDISTRIBUTABLE = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
const DOCKER = 'application/vnd.docker.image.rootfs.diff.tar';
const DOCKER_FOREIGN = 'application/vnd.docker.image.rootfs.foreign.diff.tar';
const WASM = 'application/vnd.wasm.content.layer.v1+wasm';

let trip: RoundTrip;
beforeEach(async () => (trip = await openRoundTrip()));
afterEach(() => trip.dispose());

/** A blob that is no filesystem, as a layer. */
function oddLayer(mediaType: string): RealLayer {
  const bytes = randomBytes(300);
  return {
    descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length },
    bytes,
    diffId: digestOf(bytes),
  };
}

describe('layers of every media type', () => {
  test.each([
    [OCI, OCI],
    [`${OCI}+gzip`, `${OCI}+gzip`],
    [`${OCI}+zstd`, `${OCI}+zstd`],
    [NONDISTRIBUTABLE, NONDISTRIBUTABLE],
    [`${NONDISTRIBUTABLE}+gzip`, `${NONDISTRIBUTABLE}+gzip`],
    [`${NONDISTRIBUTABLE}+zstd`, `${NONDISTRIBUTABLE}+zstd`],
    [DOCKER, OCI],
    [`${DOCKER}.gzip`, `${OCI}+gzip`],
    [`${DOCKER}.zstd`, `${OCI}+zstd`],
    [`${DOCKER_FOREIGN}.gzip`, `${NONDISTRIBUTABLE}+gzip`],
  ])('%s come back as %s', async (mediaType, expected) => {
    const layer = await realLayer(mediaType);
    await storeRealImage(trip.source, [layer], { tag: 'v1' });
    const [image] = platformImages(await trip.encrypt());
    expect(image!.manifest.layers[0]?.mediaType).toBe(`${expected}+encrypted`);
    const [plain] = platformImages(await trip.decrypt());
    const [descriptor] = plain!.manifest.layers;
    expect(descriptor?.mediaType).toBe(expected);
    const bytes = await bytesOf(trip.decrypted.openBlob(descriptor!));
    expect(bytes.subarray(0, layer.bytes.length).equals(layer.bytes)).toBe(true);
    expect(bytes.length).toBeGreaterThan(layer.bytes.length);
  });

  test("Docker's types inside an OCI manifest become OCI's, also of a layer that stays plain", async () => {
    const [base, top] = [await realLayer(`${DOCKER}.gzip`), await realLayer(`${DOCKER}.gzip`)];
    await storeRealImage(trip.source, [base, top], { tag: 'v1' });
    const selection = { kind: 'layers', positions: [1] } as const;
    const [image] = platformImages(await trip.encrypt({ selection }));
    const [plain, encrypted] = image!.manifest.layers;
    expect(plain).toEqual({ ...base.descriptor, mediaType: GZIP });
    expect(encrypted?.mediaType).toBe(`${GZIP}+encrypted`);
  });

  test("Docker's encrypted type inside an OCI manifest, as one peer writes it, is decrypted", async () => {
    const layer = await realLayer(GZIP);
    await storeRealImage(trip.source, [layer], { tag: 'v1' });
    const [image] = platformImages(await trip.encrypt({ isSalted: false }));
    const layers = image!.manifest.layers.map((each) => ({ ...each, mediaType: `${DOCKER}.gzip+encrypted` }));
    const mediaType = MEDIA_TYPE.ociManifest;
    await trip.encrypted.writeManifest(encodeImageDocument({ ...image!.manifest, mediaType, layers }), 'v1');
    const [plain] = platformImages(await trip.decrypt());
    expect(plain!.manifest.layers).toEqual([layer.descriptor]);
  });
});

describe('a manifest that mixes', () => {
  test.each([
    ['counts every layer', true],
    ['counts only layers with files', false],
  ])('files and a module, with a config that %s, changes only what has files', async (_what, isCounted) => {
    const layers = [
      await realLayer(GZIP),
      oddLayer(WASM),
      oddLayer('application/x-acme'),
      await realLayer(GZIP),
    ];
    const counted = isCounted ? layers : [layers[0]!, layers[3]!];
    const rootfs = { type: 'layers', diff_ids: counted.map(({ diffId }) => diffId) };
    await storeRealImage(trip.source, layers, { tag: 'v1', config: { rootfs } });
    const [image] = platformImages(await trip.encrypt());
    expect(image!.manifest.layers.map(({ mediaType }) => mediaType)).toEqual([
      `${GZIP}+encrypted`,
      WASM,
      'application/x-acme',
      `${GZIP}+encrypted`,
    ]);
    expect(image!.manifest.layers[1]).toEqual(layers[1]!.descriptor);
    const { diff_ids: diffIds } = image!.config.rootfs;
    expect(diffIds).toHaveLength(counted.length);
    expect(diffIds[0]).not.toBe(layers[0]!.diffId);
    expect(diffIds.at(-1)).not.toBe(layers[3]!.diffId);
    if (isCounted) expect(diffIds.slice(1, 3)).toEqual([layers[1]!.diffId, layers[2]!.diffId]);
    const [plain] = platformImages(await trip.decrypt());
    expect(plain!.config.rootfs.diff_ids).toEqual(diffIds);
    await bytesOf(trip.decrypted.openBlob(plain!.manifest.layers[2]!));
  });

  test('up the number of layers is refused', async () => {
    const rootfs = { type: 'layers', diff_ids: [digestOf('a'), digestOf('b')] };
    const layers = [await realLayer(GZIP), oddLayer(WASM), oddLayer(WASM)];
    await storeRealImage(trip.source, layers, { tag: 'v1', config: { rootfs } });
    await expect(trip.encrypt()).rejects.toThrow(/3 layers but its config names 2/);
  });

  test('in a layer that lives elsewhere keeps it and its URLs', async () => {
    const here = await realLayer(GZIP);
    const elsewhere = await realLayer(`${NONDISTRIBUTABLE}+gzip`);
    const urls = ['https://elsewhere.example/layer'];
    const foreign = { ...elsewhere, descriptor: { ...elsewhere.descriptor, urls } };
    await storeRealImage(trip.source, [foreign, here], { tag: 'v1' });
    const [image] = platformImages(await trip.encrypt());
    expect(image!.manifest.layers[0]).toEqual(foreign.descriptor);
    expect(image!.diffIds[0]).toBe(elsewhere.diffId);
    expect(await trip.encrypted.hasBlob(foreign.descriptor)).toBe(false);
  });
});

describe('indexes', () => {
  test('nested in each other, with entries without platform, keep what they say', async () => {
    const image = async (architecture: string) =>
      storeRealImage(trip.source, [await realLayer(GZIP)], { architecture, isChild: true });
    const [first, second] = [await image('amd64'), await image('riscv64')];
    const inner = encodeImageDocument({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociIndex,
      artifactType: 'application/x-acme',
      manifests: [second.descriptor],
      annotations: { inner: 'kept' },
    });
    await trip.source.writeManifest(inner, undefined, { isChild: true });
    const subject = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf('subject'), size: 7 };
    const outer = encodeImageDocument({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociIndex,
      manifests: [{ ...first.descriptor, annotations: { entry: 'kept' } }, inner.descriptor],
      annotations: { outer: 'kept' },
      subject,
    });
    await trip.source.writeManifest(outer, 'v1');
    const graph = await trip.encrypt();
    const indexes = graph.nodes.flatMap((node) => (node.kind === 'index' ? [node.index] : []));
    expect(indexes).toMatchObject([
      { artifactType: 'application/x-acme', annotations: { inner: 'kept' } },
      { annotations: { outer: 'kept' }, subject, manifests: [{ annotations: { entry: 'kept' } }, {}] },
    ]);
    expect(indexes[1]?.manifests.every(({ platform }) => platform === undefined)).toBe(true);
    expect(platformImages(graph).map(({ platform }) => platform.architecture)).toEqual(['amd64', 'riscv64']);
    await trip.decrypt();
  });
});

describe('a scrubbed history', () => {
  const history = [
    {
      created: '2026-01-01T00:00:00Z',
      created_by: 'RUN secret-step',
      author: 'me',
      comment: 'c',
      'x-more': 'y',
    },
    { created: '2026-01-02T00:00:00Z', created_by: 'ENV A=b', empty_layer: true },
  ];

  test('keeps the number of entries, their times, and which made a layer', async () => {
    const config = {
      history,
      author: 'secret-step author',
      comment: 'secret-step comment',
      container_config: { Cmd: ['secret-step'] },
      'moby.buildkit.buildinfo.v1': 'c2VjcmV0LXN0ZXA=',
    };
    await storeRealImage(trip.source, [await realLayer(GZIP)], { tag: 'v1', config });
    const [image] = platformImages(await trip.encrypt({ isHistoryScrubbed: true }));
    expect(image!.config.history).toEqual([
      { created: '2026-01-01T00:00:00Z' },
      { created: '2026-01-02T00:00:00Z', empty_layer: true },
    ]);
    expect(image!.config.config?.Cmd).toEqual(['/bin/true']);
    expect(Buffer.from(image!.configBytes).toString()).not.toMatch(/secret-step|c2VjcmV0|container_config/);
  });

  test('is not made unasked', async () => {
    await storeRealImage(trip.source, [await realLayer(GZIP)], { tag: 'v1', config: { history } });
    const [image] = platformImages(await trip.encrypt());
    expect(image!.config.history).toEqual(history);
  });
});

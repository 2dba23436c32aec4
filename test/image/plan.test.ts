import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { readImageGraph } from '#src/image/image-graph.ts';
import type { LayerSelection } from '#src/image/layer-selection.ts';
import { type PlanOptions, planEncryption, planIdentity, planTotals } from '#src/image/plan.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeIndex } from '../fakes/image.ts';
import { type RealImageOptions, type RealLayer, realLayer, storeRealImage } from './real-image.ts';

const GZIP = MEDIA_TYPE.ociLayerGzip;
const WASM = 'application/vnd.wasm.content.layer.v1+wasm';
const NONDISTRIBUTABLE = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip';

async function graphOf(layers: readonly RealLayer[], options: RealImageOptions = {}) {
  const store = createMemoryStore();
  await storeRealImage(store, layers, { tag: 'v1', ...options });
  return readImageGraph(store, 'v1');
}

const threeLayers = async () =>
  Promise.all([realLayer(GZIP), realLayer(GZIP), realLayer(MEDIA_TYPE.ociLayer)]);

async function chosen(layers: readonly RealLayer[], selection: LayerSelection): Promise<boolean[]> {
  const [platform] = planEncryption(await graphOf(layers), selection).platforms;
  return platform!.layers.map((layer) => layer.isEncrypted);
}

describe('a plan', () => {
  test('is for all layers when nothing is chosen', async () => {
    expect(await chosen(await threeLayers(), { kind: 'default' })).toEqual([true, true, true]);
  });

  test('counts layers from the base, and negative ones from the top', async () => {
    const positions = (...list: number[]) => ({ kind: 'layers', positions: list }) as const;
    expect(await chosen(await threeLayers(), positions(0))).toEqual([true, false, false]);
    expect(await chosen(await threeLayers(), positions(-1, 1))).toEqual([false, true, true]);
  });

  test('refuses to leave a copy of a chosen layer in the clear, at another place or for another platform', async () => {
    const [twin, other] = [await realLayer(GZIP), await realLayer(GZIP)];
    const top = { kind: 'layers', positions: [-1] } as const;
    const refused = expect.objectContaining({
      code: 'USAGE_INVALID',
      message: expect.stringContaining('layer 0 of linux/a') as string,
    }) as Error;
    await expect(chosen([twin, other, twin], top)).rejects.toThrow(refused);
    expect(await chosen([twin, other, twin], { kind: 'layers', positions: [0, 2] })).toEqual([
      true,
      false,
      true,
    ]);
    const store = createMemoryStore();
    const platforms = await Promise.all(
      (['amd64', 'arm64'] as const).map(async (architecture) => {
        const layers = architecture === 'amd64' ? [other, twin] : [twin, await realLayer(GZIP)];
        return {
          ...(await storeRealImage(store, layers, { architecture, isChild: true })),
          architecture,
        };
      }),
    );
    await store.writeManifest(fakeIndex(platforms), 'v1');
    const graph = await readImageGraph(store, 'v1');
    expect(() => planEncryption(graph, top)).toThrow(refused);
  });

  test.each(['layer', 'config'] as const)(
    'refuses a copy of a layer as the %s of an artifact',
    async (place) => {
      const store = createMemoryStore();
      const layer = await realLayer(GZIP);
      const image = await storeRealImage(store, [layer], { isChild: true });
      const empty = { mediaType: MEDIA_TYPE.ociEmpty, digest: digestOf('{}'), size: 2 };
      const artifact = encodeImageDocument({
        schemaVersion: 2,
        mediaType: MEDIA_TYPE.ociManifest,
        artifactType: 'application/vnd.acme.cache',
        config: place === 'config' ? layer.descriptor : empty,
        layers: [place === 'config' ? empty : layer.descriptor],
      });
      await store.writeManifest(artifact, undefined, { isChild: true });
      await store.writeManifest(fakeIndex([image, artifact]), 'v1');
      const graph = await readImageGraph(store, 'v1');
      expect(() => planEncryption(graph, { kind: 'all' })).toThrow(
        expect.objectContaining({
          code: 'USAGE_INVALID',
          message: expect.stringContaining(artifact.descriptor.digest) as string,
        }) as Error,
      );
    },
  );

  test.each([3, -4])('refuses layer %i of three', async (position) => {
    await expect(chosen(await threeLayers(), { kind: 'layers', positions: [position] })).rejects.toThrow(
      expect.objectContaining({ code: 'USAGE_INVALID' }),
    );
  });

  test('leaves plain what is shared with the base, however it is compressed there', async () => {
    const content = randomBytes(100);
    const there = await realLayer(MEDIA_TYPE.ociLayerZstd, content);
    const here = await realLayer(GZIP, content);
    expect(here.diffId).toBe(there.diffId);
    const graph = await graphOf([await realLayer(GZIP), here, await realLayer(GZIP)]);
    const selection = { kind: 'base', bases: [{ name: 'the-base', graph: await graphOf([there]) }] } as const;
    const [platform] = planEncryption(graph, selection).platforms;
    expect(platform!.layers.map((layer) => layer.isEncrypted)).toEqual([true, false, true]);
    expect(platform!.layers[1]?.reason).toBe('shared with the-base');
  });

  test('knows a blob of the base that the config does not count by its digest', async () => {
    const [files, module] = [await realLayer(GZIP), await realLayer(WASM)];
    const rootfs = { type: 'layers', diff_ids: [files.diffId] };
    const base = await graphOf([files, module], { config: { rootfs } });
    const top = await realLayer(GZIP);
    const graph = await graphOf([files, module, top], {
      config: { rootfs: { ...rootfs, diff_ids: [files.diffId, top.diffId] } },
    });
    const selection = { kind: 'base', bases: [{ name: 'the-base', graph: base }] } as const;
    const [platform] = planEncryption(graph, selection).platforms;
    expect(platform!.layers).toMatchObject([
      { isEncrypted: false, reason: 'shared with the-base' },
      { isEncrypted: false, reason: 'shared with the-base', diffId: undefined },
      { isEncrypted: true },
    ]);
  });

  test('refuses to encrypt nothing', async () => {
    const layers = await threeLayers();
    const base = await graphOf(layers);
    await expect(chosen(layers, { kind: 'base', bases: [{ name: 'itself', graph: base }] })).rejects.toThrow(
      /no layer is left to encrypt: shared with itself/,
    );
  });

  test('lets pass what is no filesystem layer, and says so; named, it is refused', async () => {
    const gzip = await realLayer(GZIP);
    const odd = { ...gzip, descriptor: { ...gzip.descriptor, mediaType: WASM } };
    const layers = [odd, await realLayer(GZIP)];
    const plan = planEncryption(await graphOf(layers), { kind: 'all' });
    expect(plan.platforms[0]!.layers.map((layer) => layer.isEncrypted)).toEqual([false, true]);
    expect(plan.notes).toEqual([expect.stringMatching(/^layer 0 of linux\/amd64 passes .* no filesystem/)]);
    expect(await chosen(layers, { kind: 'layers', positions: [1] })).toEqual([false, true]);
    await expect(chosen(layers, { kind: 'layers', positions: [0] })).rejects.toThrow(
      expect.objectContaining({ code: 'INPUT_UNSUPPORTED' }),
    );
  });

  test('lets pass a layer whose content is elsewhere', async () => {
    const gzip = await realLayer(GZIP);
    const urls = ['https://elsewhere.example/layer'];
    const foreign = { ...gzip, descriptor: { ...gzip.descriptor, mediaType: NONDISTRIBUTABLE, urls } };
    const { platforms } = planEncryption(await graphOf([foreign, await realLayer(GZIP)]), { kind: 'all' });
    expect(platforms[0]!.layers).toMatchObject([
      { isEncrypted: false, isPassedThrough: true, reason: expect.stringMatching(/elsewhere/) as string },
      { isEncrypted: true },
    ]);
  });

  test('warns of volumes, which are filled on the disk', async () => {
    const config = { config: { Volumes: { '/data': {}, '/a': {}, '/b': {}, '/c': {} } } };
    const { notes } = planEncryption(await graphOf(await threeLayers(), { config }), { kind: 'all' });
    expect(notes).toEqual([
      expect.stringMatching(/^linux\/amd64 declares volumes \("\/data", "\/a", "\/b" and 1 more\): .*disk/),
    ]);
  });

  test('refuses to encrypt a layer twice', async () => {
    const gzip = await realLayer(GZIP);
    const again = { ...gzip, descriptor: { ...gzip.descriptor, mediaType: `${GZIP}+encrypted` } };
    await expect(chosen([again], { kind: 'all' })).rejects.toThrow(/encrypted already/);
  });

  test("says that Docker's format becomes OCI's", async () => {
    const docker = { manifestMediaType: MEDIA_TYPE.dockerManifest };
    const layer = await realLayer(MEDIA_TYPE.dockerLayerGzip);
    for (const graph of [await graphOf(await threeLayers(), docker), await graphOf([layer])]) {
      expect(planEncryption(graph, { kind: 'all' }).notes).toEqual([expect.stringMatching(/OCI format/)]);
    }
  });

  test('sums what is encrypted and what stays plain, shared layers once', async () => {
    const store = createMemoryStore();
    const shared = await realLayer(GZIP);
    const own = await realLayer(GZIP);
    const children = [
      { ...(await storeRealImage(store, [shared, own], { isChild: true })), architecture: 'amd64' },
      {
        ...(await storeRealImage(store, [shared, own], { isChild: true, architecture: 'arm64' })),
        architecture: 'arm64',
      },
    ];
    await store.writeManifest(fakeIndex(children), 'v1');
    const plan = planEncryption(await readImageGraph(store, 'v1'), { kind: 'layers', positions: [1] });
    expect(planTotals(plan)).toEqual({
      encryptedBytes: own.descriptor.size,
      reusedBytes: 0,
      plainBytes: shared.descriptor.size,
    });
  });

  test('has an identity that differs where the result does', async () => {
    const graph = await graphOf(await threeLayers());
    const identity = (...args: [LayerSelection, PlanOptions?]) =>
      JSON.stringify(planIdentity(planEncryption(graph, ...args)));
    const all = identity({ kind: 'all' });
    expect(identity({ kind: 'default' })).toBe(all);
    expect(identity({ kind: 'layers', positions: [0] })).not.toBe(all);
    expect(identity({ kind: 'all' }, { isHistoryScrubbed: true })).not.toBe(all);
  });
});

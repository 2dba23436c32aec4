import { describe, expect, test } from 'vitest';
import { readImageGraph } from '#src/image/image-graph.ts';
import { type LayerSelection, planEncryption } from '#src/image/plan.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeIndex } from '../fakes/image.ts';
import { type RealImageOptions, type RealLayer, realLayer, storeRealImage } from './real-image.ts';

const GZIP = MEDIA_TYPE.ociLayerGzip;

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

  test.each([3, -4])('refuses layer %i of three', async (position) => {
    await expect(chosen(await threeLayers(), { kind: 'layers', positions: [position] })).rejects.toThrow(
      expect.objectContaining({ code: 'USAGE_INVALID' }),
    );
  });

  test('leaves plain what is shared with the base, however it is compressed there', async () => {
    const layers = await threeLayers();
    const recompressed = {
      ...layers[0],
      descriptor: { ...layers[0].descriptor, digest: digestOf('other') },
    };
    const base = await graphOf([layers[1]]);
    const graph = await graphOf(layers);
    const selection = { kind: 'base', name: 'the-base', base } as const;
    const [platform] = planEncryption(graph, selection).platforms;
    expect(platform!.layers.map((layer) => layer.isEncrypted)).toEqual([true, false, true]);
    expect(platform!.layers[1]?.reason).toBe('shared with the-base');
    expect(recompressed.diffId).toBe(layers[0].diffId);
  });

  test('refuses to encrypt nothing', async () => {
    const layers = await threeLayers();
    const base = await graphOf(layers);
    await expect(chosen(layers, { kind: 'base', name: 'itself', base })).rejects.toThrow(/no layer is left/);
  });

  test('refuses layers it cannot encrypt, unless they are left out', async () => {
    const zstd = await realLayer(GZIP);
    const odd = { ...zstd, descriptor: { ...zstd.descriptor, mediaType: MEDIA_TYPE.ociLayerZstd } };
    const layers = [odd, await realLayer(GZIP)];
    await expect(chosen(layers, { kind: 'all' })).rejects.toThrow(
      expect.objectContaining({ code: 'INPUT_UNSUPPORTED' }),
    );
    expect(await chosen(layers, { kind: 'layers', positions: [1] })).toEqual([false, true]);
    const again = { ...zstd, descriptor: { ...zstd.descriptor, mediaType: `${GZIP}+encrypted` } };
    await expect(chosen([again], { kind: 'all' })).rejects.toThrow(/encrypted already/);
  });

  test('tells of the base image a builder has noted', async () => {
    const annotations = { 'org.opencontainers.image.base.name': 'docker.io/library/debian:12' };
    const graph = await graphOf(await threeLayers(), { manifest: { annotations } });
    expect(planEncryption(graph, { kind: 'default' }).notes[0]).toMatch(
      /--base docker.io\/library\/debian:12/,
    );
    expect(planEncryption(graph, { kind: 'all' }).notes).toEqual([]);
    const hostile = { 'org.opencontainers.image.base.name': 'x\u001b[2J' };
    const other = await graphOf(await threeLayers(), { manifest: { annotations: hostile } });
    expect(planEncryption(other, { kind: 'default' }).notes).toEqual([]);
  });

  test('leaves attestations of the plain image out', async () => {
    const store = createMemoryStore();
    const image = await storeRealImage(store, [await realLayer(GZIP)], { isChild: true });
    const statement = { mediaType: 'application/vnd.in-toto+json', digest: digestOf('sbom'), size: 4 };
    const attestation = encodeImageDocument({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      config: { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf('{}'), size: 2 },
      layers: [statement],
    });
    await store.writeManifest(attestation, undefined, { isChild: true });
    await store.writeManifest(fakeIndex([{ ...image, architecture: 'amd64' }, attestation]), 'v1');
    const plan = planEncryption(await readImageGraph(store, 'v1'), { kind: 'all' });
    expect(plan.dropped.map((node) => node.blob.descriptor.digest)).toEqual([attestation.descriptor.digest]);
    expect(plan.notes).toHaveLength(1);
  });
});

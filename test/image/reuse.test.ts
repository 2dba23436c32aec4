/** Layers of an earlier release in a new one, opened with a private key. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { openEarlierLayers } from '#src/image/earlier-layers.ts';
import { type ImageGraph, platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { wrapAll } from '#src/image/minted-image-key.ts';
import { planEncryption, planTotals } from '#src/image/plan.ts';
import { publishImage } from '#src/image/publish.ts';
import { unwrapLayerKey, withoutEncryption, wrapLayerKey } from '#src/keywrap/annotations.ts';
import { createJweUnwrapper, createJweWrapper } from '#src/keywrap/jwe.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeIndex } from '../fakes/image.ts';
import { alteredStore } from '../fakes/altered-store.ts';
import { type RealLayer, realLayer, storeRealImage } from './real-image.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const wrapper = createJweWrapper([pair.publicKey]);
const unwrapper = createJweUnwrapper(pair.privateKey);

let directory: string;
let source: BlobStore;
let layers: RealLayer[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-reuse-'));
  source = openLayout(join(directory, 'source'));
  layers = await Promise.all(Array.from({ length: 3 }, () => realLayer(MEDIA_TYPE.ociLayerGzip)));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

/** Encrypts an image of the source into a store. */
async function release(
  reference: string,
  destination: BlobStore,
  earlier?: ImageGraph,
  unwrappers: readonly KeyUnwrapper[] = [unwrapper],
) {
  const graph = await readImageGraph(source, reference);
  const result = await publishImage({
    graph,
    plan: planEncryption(graph, { kind: 'all' }),
    destination,
    tag: reference,
    wrappers: [wrapper],
    recipientIds: ['one'],
    repository: 'r',
    isSalted: true,
    cacheDirectory: join(directory, 'cache'),
    clock: systemClock,
    reuse: earlier && { name: 'before', graph: earlier, keys: { kind: 'local', unwrappers } },
  });
  return { ...result, graph: await readImageGraph(destination, reference) };
}

const layersOf = (graph: ImageGraph) => platformImages(graph).map(({ manifest }) => manifest.layers);

describe('reuse', () => {
  test('keeps blob, salt, digest, diff ID and the secrets byte for byte', async () => {
    await storeRealImage(source, layers.slice(0, 2), { tag: 'v1' });
    await storeRealImage(source, [layers[0]!, layers[2]!], { tag: 'v2' });
    const before = await release('v1', openLayout(join(directory, 'out')));
    const after = await release('v2', openLayout(join(directory, 'out')), before.graph);
    const [[kept, fresh]] = layersOf(after.graph) as [[RealLayer['descriptor'], RealLayer['descriptor']]];
    const [[old, gone]] = layersOf(before.graph) as [[RealLayer['descriptor'], RealLayer['descriptor']]];
    expect(withoutEncryption(kept.annotations)).toEqual(withoutEncryption(old.annotations));
    expect({ ...kept, annotations: undefined }).toEqual({ ...old, annotations: undefined });
    expect(fresh.digest).not.toBe(gone.digest);
    const [oldImage, newImage] = [platformImages(before.graph)[0]!, platformImages(after.graph)[0]!];
    expect(newImage.diffIds[0]).toBe(oldImage.diffIds[0]);
    const opened = await Promise.all(
      [old, kept].map(({ annotations }) => unwrapLayerKey(annotations, [unwrapper])),
    );
    expect(Buffer.from(opened[0]!).equals(opened[1]!)).toBe(true);
    expect(planTotals(after.plan)).toMatchObject({ reusedBytes: kept.size, plainBytes: 0 });
  });

  test('finds a layer of any platform, however it is compressed in the new build', async () => {
    const [shared, one, two] = layers;
    const tar = await realLayer(MEDIA_TYPE.ociLayer, Buffer.from('same content'));
    const zipped = await realLayer(MEDIA_TYPE.ociLayerGzip, Buffer.from('same content'));
    const child = async (architecture: string, own: RealLayer[]) => ({
      ...(await storeRealImage(source, own, { architecture, isChild: true })),
      architecture,
    });
    const first = [await child('amd64', [shared!, one!, tar]), await child('arm64', [shared!, two!, tar])];
    await source.writeManifest(fakeIndex(first), 'v1');
    const second = [
      await child('amd64', [shared!, two!, zipped]),
      await child('s390x', [shared!, one!, zipped]),
    ];
    await source.writeManifest(fakeIndex(second), 'v2');
    const out = createMemoryStore();
    const before = await release('v1', out);
    const after = await release('v2', out, before.graph);
    expect(planTotals(after.plan).encryptedBytes).toBe(0);
    const known = new Set(
      layersOf(before.graph)
        .flat()
        .map(({ digest }) => digest),
    );
    for (const { digest } of layersOf(after.graph).flat()) expect(known.has(digest)).toBe(true);
  });

  test('goes on after a failed push with the layers it had taken', async () => {
    await storeRealImage(source, layers.slice(0, 2), { tag: 'v1' });
    await storeRealImage(source, [layers[0]!, layers[2]!], { tag: 'v2' });
    const before = await release('v1', createMemoryStore());
    const out = createMemoryStore();
    const failing = alteredStore(out, {
      writeManifest: async () => {
        throw new LatchkeyError('NET_UNREACHABLE', 'the registry is down');
      },
    });
    await expect(release('v2', failing, before.graph)).rejects.toThrow('the registry is down');
    const after = await release('v2', out, before.graph);
    expect(after.isResumed).toBe(true);
    const [reused, fresh] = after.plan.platforms[0]!.layers;
    expect(reused).toMatchObject({ reason: 'unchanged since before' });
    expect(fresh).not.toHaveProperty('reuse');
    expect(layersOf(after.graph)[0]![0]!.digest).toBe(layersOf(before.graph)[0]![0]!.digest);
  });
});

describe('a layer is not taken over', () => {
  beforeEach(async () => {
    await storeRealImage(source, layers.slice(0, 2), { tag: 'v1' });
  });

  /** The image with its first layer's annotations made anew around other private options. */
  async function withOptions(
    graph: ImageGraph,
    change: (options: Record<string, unknown>) => Record<string, unknown>,
  ): Promise<ImageGraph> {
    const nodes = await Promise.all(
      graph.nodes.map(async (node) => {
        if (node.kind !== 'image') return node;
        const [first, ...others] = node.manifest.layers;
        const bytes = await unwrapLayerKey(first!.annotations, [unwrapper]);
        const options = change(JSON.parse(Buffer.from(bytes!).toString()) as Record<string, unknown>);
        const annotations = await wrapLayerKey(
          Buffer.from(JSON.stringify(options)),
          { mac: Buffer.alloc(32) },
          [wrapper],
        );
        return { ...node, manifest: { ...node.manifest, layers: [{ ...first!, annotations }, ...others] } };
      }),
    );
    return { ...graph, nodes };
  }

  test('when its key was made for another layer than the config counts', async () => {
    const { graph } = await release('v1', createMemoryStore());
    const forged = await withOptions(graph, (options) => ({ ...options, digest: layers[2]!.diffId }));
    expect(await openEarlierLayers(forged, 'x', [unwrapper])).toHaveLength(1);
  });

  test('when it does not say what it was, as after other tools', async () => {
    const { graph } = await release('v1', createMemoryStore());
    const foreign = await withOptions(graph, (options) => ({ ...options, sourceDiffId: undefined }));
    const found = await openEarlierLayers(foreign, 'x', [unwrapper]);
    expect(found.map(({ sourceDiffId }) => sourceDiffId)).toEqual([layers[1]!.diffId]);
    expect(
      found.every(({ key }) => key.kind === 'opened' && parsePrivateOptions(key.privateOptions)),
    ).toBeTruthy();
  });

  test('by a key that opens none, or from a plain image', async () => {
    const { graph } = await release('v1', createMemoryStore());
    const stranger = createJweUnwrapper(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
    await expect(openEarlierLayers(graph, 'x', [stranger])).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    const plain = await readImageGraph(source, 'v1');
    await expect(openEarlierLayers(plain, 'x', [unwrapper])).rejects.toMatchObject({
      code: 'INPUT_UNSUPPORTED',
    });
  });
});

test('a key server that answers with another number of keys is not believed', async () => {
  const mint = { mint: () => Promise.resolve('ik-1'), wrap: () => Promise.resolve([]) };
  const sources = [{ kind: 'sealed', sealedOptions: 'x' }] as const;
  await expect(wrapAll(mint, 'ik-1', sources)).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
});

import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { notedBases, readNotedBases } from '#src/image/base-image.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { planEncryption } from '#src/image/plan.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { formatReference } from '#src/oci/reference.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { realLayer, storeRealImage } from './real-image.ts';

const NAME = 'org.opencontainers.image.base.name';
const DIGEST = 'org.opencontainers.image.base.digest';

async function graphWith(manifestNotes: Record<string, string>, entryNotes: Record<string, string> = {}) {
  const store = createMemoryStore();
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip), await realLayer(MEDIA_TYPE.ociLayerGzip)];
  const manifest = { annotations: manifestNotes };
  const image = await storeRealImage(store, layers, { isChild: true, manifest });
  const manifests = [{ ...image.descriptor, annotations: entryNotes }];
  await store.writeManifest(
    encodeImageDocument({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests }),
    'v1',
  );
  return { graph: await readImageGraph(store, 'v1'), layers };
}

describe('noted bases', () => {
  test('are read from manifests and from the entries of the index, pinned, each once', async () => {
    const pinned = { [NAME]: 'debian:12', [DIGEST]: digestOf('debian') };
    const { graph } = await graphWith(pinned, pinned);
    expect(notedBases(graph).map(({ reference }) => formatReference(reference))).toEqual([
      `docker.io/library/debian:12@${digestOf('debian')}`,
    ]);
  });

  test.each(['', 'x\u001b[2J', 'oci:/etc', '../../x', 'http://169.254.169.254/x', 'a/UPPER'])(
    '%j is no reference and is skipped',
    async (name) => {
      expect(notedBases((await graphWith({ [NAME]: name })).graph)).toEqual([]);
    },
  );

  test('a digest that is none is not asked for', async () => {
    const { graph } = await graphWith({ [NAME]: 'debian:12', [DIGEST]: 'latest' });
    expect(notedBases(graph)[0]?.reference.digest).toBeUndefined();
  });
});

describe('reading them', () => {
  test('leaves plain what they share', async () => {
    const { graph, layers } = await graphWith({ [NAME]: 'debian:12' });
    const registry = createMemoryStore();
    await storeRealImage(registry, [layers[0]!], { tag: '12' });
    const { bases, notes } = await readNotedBases(graph, () => registry);
    expect(notes).toEqual([expect.stringMatching(/built on debian:12: .* stay plain/)]);
    const { platforms } = planEncryption(graph, { kind: 'base', bases });
    expect(platforms[0]!.layers).toMatchObject([
      { isEncrypted: false, reason: 'shared with debian:12' },
      { isEncrypted: true },
    ]);
  });

  test.each([
    ['one that is not there', createMemoryStore()],
    [
      'one that wants a password',
      {
        ...createMemoryStore(),
        location: 'docker://private',
        readManifest: async () => {
          throw new LatchkeyError('NET_UNAUTHORIZED', 'the registry wants a login');
        },
      },
    ],
  ])('%s shares nothing, and it is said', async (_what, registry) => {
    const { graph } = await graphWith({ [NAME]: 'debian:12' });
    const { bases, notes } = await readNotedBases(graph, () => registry);
    expect(bases).toEqual([]);
    expect(notes).toEqual([expect.stringMatching(/debian:12 cannot be read .*layers are encrypted too/)]);
  });

  test('is stopped by an interruption', async () => {
    const { graph } = await graphWith({ [NAME]: 'debian:12' });
    const reading = readNotedBases(graph, () => createMemoryStore(), { signal: AbortSignal.abort() });
    await expect(reading).rejects.toThrow();
  });
});

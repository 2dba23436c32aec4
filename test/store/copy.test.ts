import { describe, expect, test } from 'vitest';
import { MAX_INDEX_DEPTH } from '#src/base/limits.ts';
import { digestOf, type Digest } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobDestination, BlobStore, ManifestBlob } from '#src/store/blob-store.ts';
import { copyImage, type CopyEvent } from '#src/store/copy.ts';
import { walkGraph } from '#src/store/graph.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { bytesOf, fakeImage, fakeIndex, storeImage, streamOf } from '../fakes/image.ts';

async function nestedIndex(source: BlobStore): Promise<ManifestBlob> {
  const [amd64, arm64] = [fakeImage([100, 200], 'amd64'), fakeImage([300], 'arm64')];
  await storeImage(source, amd64, undefined, true);
  await storeImage(source, arm64, undefined, true);
  const inner = fakeIndex([arm64.manifest]);
  await source.writeManifest(inner, undefined, { isChild: true });
  const outer = fakeIndex([{ ...amd64.manifest, architecture: 'amd64' }, inner]);
  await source.writeManifest(outer, 'v1');
  return outer;
}

describe('copyImage', () => {
  test('a nested index comes over whole, children before parents', async () => {
    const source = createMemoryStore();
    const root = await nestedIndex(source);
    const destination = createMemoryStore();
    const written: Digest[] = [];
    const events: CopyEvent['kind'][] = [];
    const checked: BlobDestination = {
      location: destination.location,
      hasBlob: (descriptor) => destination.hasBlob(descriptor),
      writeBlob: (descriptor, open, options) => destination.writeBlob(descriptor, open, options),
      writeManifest: async (manifest, tag, options) => {
        if (manifest.descriptor.mediaType === MEDIA_TYPE.ociManifest) {
          const { config, layers } = parseManifest(manifest.bytes);
          for (const blob of [config, ...layers]) expect(await destination.hasBlob(blob)).toBe(true);
        }
        expect(tag).toBe(options?.isChild === true ? undefined : 'copy');
        written.push(manifest.descriptor.digest);
        await destination.writeManifest(manifest, tag, options);
      },
    };
    await copyImage(source, checked, {
      reference: 'v1',
      tag: 'copy',
      onEvent: ({ kind }) => events.push(kind),
    });
    expect(written).toHaveLength(4);
    expect(written.at(-1)).toBe(root.descriptor.digest);
    expect(events.filter((kind) => kind === 'copied')).toHaveLength(5);
    expect((await destination.readManifest('copy')).bytes).toEqual(root.bytes);
  });

  test('the first failure stops the copy, and nothing points at what is missing', async () => {
    const source = createMemoryStore();
    const image = fakeImage([10, 10, 10, 10, 10, 10]);
    await storeImage(source, image, 'v1');
    const destination = createMemoryStore();
    const failing: BlobStore = Object.create(destination, {
      hasBlob: {
        value: (blob: { digest: Digest }) => Promise.resolve(blob.digest !== image.layers[3]?.digest),
      },
      writeBlob: { value: () => Promise.reject(new Error('no more')) },
      writeManifest: { value: () => Promise.reject(new Error('must not be called')) },
    }) as BlobStore;
    await expect(copyImage(source, failing)).rejects.toMatchObject({ message: 'no more' });
  });

  test('an abort ends it as INTERRUPTED', async () => {
    const source = createMemoryStore();
    await storeImage(source, fakeImage([10]), 'v1');
    await expect(
      copyImage(source, createMemoryStore(), { signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({
      code: 'INTERRUPTED',
    });
  });

  test('layers that live elsewhere by their URLs stay there', async () => {
    const source = createMemoryStore();
    const image = fakeImage([]);
    await storeImage(source, image);
    const foreign = {
      mediaType: MEDIA_TYPE.ociLayer,
      digest: digestOf('elsewhere'),
      size: 9,
      urls: ['https://example.com/layer'],
    };
    const { config } = parseManifest(image.manifest.bytes);
    const manifest = encodeImageDocument({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      config,
      layers: [foreign],
    });
    await source.writeManifest(manifest, 'v1');
    const kinds: string[] = [];
    await copyImage(source, createMemoryStore(), {
      reference: 'v1',
      onEvent: ({ kind }) => kinds.push(kind),
    });
    expect(kinds.sort()).toEqual(['copied', 'foreign', 'manifest']);
  });
});

describe('walkGraph', () => {
  async function walk(source: BlobStore): Promise<number[]> {
    const depths: number[] = [];
    for await (const { depth } of walkGraph(source, await source.readManifest())) depths.push(depth);
    return depths;
  }

  test('children come before their index, each once', async () => {
    const source = createMemoryStore();
    await nestedIndex(source);
    expect(await walk(source)).toEqual([1, 2, 1, 0]);
    const twice = fakeImage([10]);
    await storeImage(source, twice, undefined, true);
    await source.writeManifest(fakeIndex([twice.manifest, twice.manifest]));
    expect(await walk(source)).toEqual([1, 0]);
  });

  test('deep nesting is refused', async () => {
    const source = createMemoryStore();
    let manifest: ManifestBlob = fakeImage([]).manifest;
    await source.writeManifest(manifest);
    for (let depth = 0; depth <= MAX_INDEX_DEPTH; depth += 1) {
      manifest = fakeIndex([manifest]);
      await source.writeManifest(manifest);
      if (depth < MAX_INDEX_DEPTH) expect((await walk(source)).at(-1)).toBe(0);
    }
    await expect(walk(source)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  test('an entry that lies about its manifest is refused', async () => {
    const source = createMemoryStore();
    const { manifest } = fakeImage([]);
    await source.writeManifest(manifest);
    const lying = { ...manifest, descriptor: { ...manifest.descriptor, size: 1 } };
    await source.writeManifest(fakeIndex([lying]));
    await expect(walk(source)).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
  });
});

describe('memory store', () => {
  test('it keeps the contract on what it stores', async () => {
    const store = createMemoryStore();
    const blob = { mediaType: 'x', digest: digestOf('abc'), size: 3 };
    await expect(store.writeBlob(blob, () => streamOf(Buffer.from('abd')))).rejects.toMatchObject({
      code: 'INPUT_DIGEST_MISMATCH',
    });
    await expect(bytesOf(store.openBlob(blob))).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
    await expect(store.readManifest('v1')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });
});

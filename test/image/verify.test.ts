/** Which of the statements attached to an image counts, and what the statement of several platforms says of one. */
import { beforeAll, describe, expect, test } from 'vitest';
import { describeGraph } from '#src/image/describe-image.ts';
import { type ImageGraph, readImageGraph } from '#src/image/image-graph.ts';
import { attachStatement } from '#src/image/statement-referrer.ts';
import { verifyImage } from '#src/image/verify.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeIndex } from '../fakes/image.ts';
import { randomImage, signedEnvelope, signingKeyPair, statementOf } from '../fakes/release-statement.ts';
import { type RealLayer, realLayer, storeRealImage } from './real-image.ts';

const vendor = signingKeyPair();
const options = { publicKeys: [vendor.publicKey], readsBlobs: false };
let layers: RealLayer[];

beforeAll(async () => {
  layers = [await realLayer(MEDIA_TYPE.ociLayerGzip)];
});

async function storedImage(): Promise<{ store: BlobStore; graph: ImageGraph }> {
  const store = createMemoryStore();
  await storeRealImage(store, layers, { tag: 'v1' });
  return { store, graph: await readImageGraph(store, 'v1') };
}

describe('of several attached statements', () => {
  test('a true one of another release, attached by a stranger, does not hide the one of this image', async () => {
    const { store, graph } = await storedImage();
    const root = graph.root.descriptor;
    const elsewhere = signedEnvelope(statementOf([randomImage()]), vendor);
    const own = signedEnvelope(describeGraph(graph), vendor);
    await attachStatement(store, root, elsewhere);
    await attachStatement(store, root, own);
    const { statement } = await verifyImage(await readImageGraph(store, 'v1'), options);
    expect(statement.root.digest).toBe(root.digest);
  });

  test('one that is of another release alone does not verify this image', async () => {
    const { store, graph } = await storedImage();
    await attachStatement(store, graph.root.descriptor, signedEnvelope(statementOf([randomImage()]), vendor));
    await expect(verifyImage(await readImageGraph(store, 'v1'), options)).rejects.toMatchObject({
      code: 'INPUT_STATEMENT_MISMATCH',
    });
  });
});

describe('the manifest of one platform', () => {
  async function releaseOfTwo() {
    const store = createMemoryStore();
    const platforms = await Promise.all(
      ['amd64', 'arm64'].map(async (architecture) => ({
        ...(await storeRealImage(store, layers, { architecture, isChild: true })),
        architecture,
      })),
    );
    await store.writeManifest(fakeIndex(platforms), 'v1');
    const envelope = signedEnvelope(describeGraph(await readImageGraph(store, 'v1')), vendor);
    return { store, platforms, envelope };
  }

  test('is verified as a part of its release', async () => {
    const { store, platforms, envelope } = await releaseOfTwo();
    const { digest } = platforms[1]!.descriptor;
    const graph = await readImageGraph(store, digest);
    const verified = await verifyImage(graph, { ...options, envelope, isPinned: true });
    expect(verified).toMatchObject({ isWholeRelease: false, images: [{ manifest: digest }] });
    const whole = await verifyImage(await readImageGraph(store, 'v1'), { ...options, envelope });
    expect(whole).toMatchObject({ isWholeRelease: true, images: [{}, {}] });
  });

  test('is none of it when it is not in the statement', async () => {
    const { store, envelope } = await releaseOfTwo();
    await storeRealImage(store, layers, {
      tag: 'forged',
      config: { config: { Cmd: ['/bin/cat', '/secret'] } },
    });
    const graph = await readImageGraph(store, 'forged');
    await expect(verifyImage(graph, { ...options, envelope })).rejects.toMatchObject({
      code: 'INPUT_STATEMENT_MISMATCH',
    });
  });

  test('is not its release under a tag, which may have been turned to the wrong platform', async () => {
    const { store, platforms, envelope } = await releaseOfTwo();
    const [, other] = platforms;
    await store.writeManifest(other!, 'v1');
    await attachStatement(store, other!.descriptor, envelope);
    await expect(verifyImage(await readImageGraph(store, 'v1'), options)).rejects.toMatchObject({
      code: 'INPUT_STATEMENT_MISMATCH',
      hint: expect.stringContaining(other!.descriptor.digest) as string,
    });
  });
});

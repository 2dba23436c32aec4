import { generateKeyPairSync } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_ATTACHED_ATTESTATIONS, MAX_ATTACHED_DOCUMENT_BYTES } from '#src/base/limits.ts';
import { generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import {
  leftBehindNotes,
  openableAttestations,
  readAttachedArtifacts,
  withAttached,
} from '#src/image/attached-artifacts.ts';
import { type ArtifactNode, type ImageGraph, readImageGraph } from '#src/image/image-graph.ts';
import { attachStatement } from '#src/image/statement-referrer.ts';
import { wrapLayerKey } from '#src/keywrap/annotations.ts';
import { createJweUnwrapper, createJweWrapper } from '#src/keywrap/jwe.ts';
import { digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore, ManifestBlob } from '#src/store/blob-store.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { alteredStore } from '../fakes/altered-store.ts';
import { fakeReferrer, storeReferrer } from '../fakes/referrer.ts';
import { realLayer, storeRealImage } from './real-image.ts';

const SBOM = 'application/spdx+json';

let store: BlobStore;
let image: ManifestBlob;
let graph: ImageGraph;

beforeEach(async () => {
  store = createMemoryStore();
  image = await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], { tag: 'v1' });
  graph = await readImageGraph(store, 'v1');
});

const attach = (artifactType: string, text?: string) =>
  storeReferrer(store, fakeReferrer(image.descriptor, artifactType, text));

describe('what is attached to an image', () => {
  test('is nothing, mostly', async () => {
    expect(await readAttachedArtifacts(graph)).toEqual({ attestations: [], others: [] });
    expect(leftBehindNotes([])).toEqual([]);
  });

  test('is sorted into attestations and others', async () => {
    await attach(SBOM);
    await attach('application/vnd.cncf.notary.signature');
    const { attestations, others } = await readAttachedArtifacts(graph);
    expect(attestations).toMatchObject([{ isAttached: true, manifest: { artifactType: SBOM } }]);
    expect(leftBehindNotes(others)).toEqual([
      'attached to the image, and left with it: application/vnd.cncf.notary.signature',
    ]);
  });

  test('does not count the statement of a release, which speaks of that one alone', async () => {
    await attachStatement(store, image.descriptor, Buffer.from('{}'));
    expect(await store.listReferrers(image.descriptor.digest)).toHaveLength(1);
    expect(await readAttachedArtifacts(graph)).toEqual({ attestations: [], others: [] });
  });

  test('is believed only from the manifest itself', async () => {
    const other = await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], { isChild: true });
    const stray = fakeReferrer(other.descriptor, SBOM);
    await storeReferrer(store, stray);
    const source = alteredStore(store, { listReferrers: async () => [stray.manifest.descriptor] });
    const { attestations, others } = await readAttachedArtifacts({ ...graph, source });
    expect(attestations).toEqual([]);
    expect(others).toEqual([stray.manifest.descriptor]);
  });

  test('and cannot be read counts among the others', async () => {
    await attach(SBOM);
    const readManifest = async () => {
      throw new LatchkeyError('INPUT_MALFORMED', 'no');
    };
    const { attestations, others } = await readAttachedArtifacts({
      ...graph,
      source: alteredStore(store, { readManifest }),
    });
    expect(attestations).toEqual([]);
    expect(others).toMatchObject([{ artifactType: SBOM }]);
  });

  test('is not read without end', async () => {
    for (let at = 0; at <= MAX_ATTACHED_ATTESTATIONS; at += 1) await attach(SBOM, `sbom ${at}`);
    await expect(readAttachedArtifacts(graph)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  test.each(['NET_REGISTRY', 'INTERRUPTED'] as const)('raises %s of the source', async (code) => {
    const listReferrers = async () => {
      throw new LatchkeyError(code, 'no');
    };
    await expect(
      readAttachedArtifacts({ ...graph, source: alteredStore(store, { listReferrers }) }),
    ).rejects.toMatchObject({ code });
  });

  test('is opened only when it is encrypted for the key, and no larger than documents are', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const key = generateLayerKey();
    const annotations = await wrapLayerKey(
      formatPrivateOptions({ ...key, plainDigest: digestOf('sbom') }),
      { mac: Buffer.alloc(32) },
      [createJweWrapper([publicKey])],
    );
    await attach(SBOM);
    const [plain] = (await readAttachedArtifacts(graph)).attestations;
    const encrypted = (size: number): ArtifactNode => {
      const [layer] = plain!.manifest.layers;
      const layers = [{ ...layer!, size, mediaType: `${SBOM}+encrypted`, annotations }];
      return { ...plain!, manifest: { ...plain!.manifest, layers } };
    };
    const [small, large] = [MAX_ATTACHED_DOCUMENT_BYTES, MAX_ATTACHED_DOCUMENT_BYTES + 1].map(encrypted);
    const unwrappers = [createJweUnwrapper(privateKey)];
    expect(await openableAttestations([plain!, small!, large!], unwrappers)).toEqual([small]);
    expect(await openableAttestations([small!], [])).toEqual([]);
  });

  test('comes before the root, which stays the last node', async () => {
    await attach(SBOM);
    const { attestations } = await readAttachedArtifacts(graph);
    expect(withAttached(graph, attestations).nodes.map(({ kind }) => kind)).toEqual(['artifact', 'image']);
  });
});

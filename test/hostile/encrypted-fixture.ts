/** An encrypted image taken apart, so that everything in it can be changed, and what must come out of it. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { LatchkeyError } from '#src/base/errors.ts';
import { describeGraph } from '#src/image/describe-image.ts';
import type { StagedStore } from '#src/image/encrypt-layer.ts';
import { encryptImage } from '#src/image/encrypt.ts';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { planEncryption } from '#src/image/plan.ts';
import { writeImage } from '#src/image/rewrite.ts';
import type { ReleaseStatement } from '#src/image/statement.ts';
import { ZstdFrameSplitter } from '#src/image/zstd-frames.ts';
import { createJweUnwrapper, createJweWrapper } from '#src/keywrap/jwe.ts';
import type { KeyUnwrapper, KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import { createLatchkeyUnwrapper, createLatchkeyWrapper } from '#src/keywrap/latchkey.ts';
import { digestHex, digestOf, type Digest } from '#src/oci/digest.ts';
import { MEDIA_TYPE, ociMediaType } from '#src/oci/media-types.ts';
import type { BlobSource } from '#src/store/blob-store.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import { LayoutReader, blobName } from '#src/store/layout-reader.ts';
import { fakeIndex, streamOf } from '../fakes/image.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';
import { decryptInMemory } from './decrypt-in-memory.ts';

export interface EncryptedFixture {
  readonly name: string;
  /** Every blob, manifests among them. */
  readonly blobs: ReadonlyMap<Digest, Uint8Array>;
  readonly root: Digest;
  readonly unwrappers: readonly KeyUnwrapper[];
  /** For attackers: they know it. */
  readonly publicKey: KeyObject;
  readonly statement: ReleaseStatement;
  /** The plain layers as they are stored, by diff ID. */
  readonly plainLayers: ReadonlyMap<Digest, Uint8Array>;
}

/** What a plain layer unpacks to, by its media type. */
export function unpacked(bytes: Uint8Array, mediaType: string): Buffer {
  if (mediaType.endsWith('gzip')) return gunzipSync(bytes);
  if (!mediaType.endsWith('zstd')) return Buffer.from(bytes);
  // Node's decoder stops after the first frame, and the salt is another one.
  const frames = new ZstdFrameSplitter().split(bytes);
  return Buffer.concat([...frames].map((frame) => zstdDecompressSync(frame)));
}

/** An image for two platforms with every kind of layer, some of them plain, encrypted by us. */
export async function ownFixture(
  name: string,
  pair = generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  imageKey = new Uint8Array(32).fill(9),
): Promise<EncryptedFixture> {
  const wrappers: KeyWrapper[] = [
    createJweWrapper([createPublicKey(pair.publicKey.export({ format: 'pem', type: 'spki' }))]),
    createLatchkeyWrapper({ imageKeyId: 'ik-1', organizationId: 'org-1' }, imageKey),
  ];
  const { blobs, root } = await inLayouts(async (source, encrypted) => {
    const shared = await realLayer(MEDIA_TYPE.ociLayer, Buffer.from(`${name} base`));
    const children = await Promise.all(
      ['amd64', 'arm64'].map(async (architecture) => {
        const types = [MEDIA_TYPE.ociLayerGzip, MEDIA_TYPE.ociLayerGzip, MEDIA_TYPE.ociLayerZstd];
        const own = [...types, MEDIA_TYPE.ociLayer].map((mediaType, position) =>
          realLayer(mediaType, Buffer.from(`${name} ${architecture} ${position} `.repeat(50))),
        );
        const layers = [shared, ...(await Promise.all(own))];
        return {
          ...(await storeRealImage(source, layers, { architecture, isChild: true })),
          architecture,
        };
      }),
    );
    await source.writeManifest(fakeIndex(children), 'v1');
    const graph = await readImageGraph(source, 'v1');
    const plan = planEncryption(graph, { kind: 'layers', positions: [1, 2, 3, 4] });
    const image = await encryptImage({
      source,
      graph,
      plan,
      destination: encrypted,
      wrappers,
      isSalted: true,
    });
    await copyBlobs(source, encrypted, image.keptLayers);
    await writeImage(encrypted, image, 'v1');
    return image.root.descriptor.digest;
  });
  const unwrappers = [createJweUnwrapper(pair.privateKey), createLatchkeyUnwrapper('ik-1', imageKey)];
  return withExpectations({ name, blobs, root, unwrappers, publicKey: pair.publicKey });
}

/** Fills in what the untouched image says and decrypts to. */
export async function withExpectations(
  image: Omit<EncryptedFixture, 'statement' | 'plainLayers'>,
): Promise<EncryptedFixture> {
  const source = sourceOf(image.blobs);
  const graph = await readImageGraph(source, image.root);
  const { images, read } = await decryptInMemory(source, graph, image.unwrappers);
  const plainLayers = new Map<Digest, Uint8Array>();
  for (const { manifest, diffIds } of images) {
    for (const [position, layer] of manifest.layers.entries()) {
      const bytes = await read(layer.digest);
      const diffId = diffIds[position]!;
      if (digestOf(unpacked(bytes, ociMediaType(layer.mediaType))) !== diffId)
        throw new Error('a bad fixture');
      plainLayers.set(diffId, bytes);
    }
  }
  if (platformImages(graph).length === 0) throw new Error('an empty fixture');
  return { ...image, statement: describeGraph(graph), plainLayers };
}

/**
 * The image layout that holds these bytes under these names, whatever digests they have.
 * @param directory where blobs are files as well, which are read without being checked on the way
 */
export function sourceOf(blobs: ReadonlyMap<Digest, Uint8Array>, directory?: string): BlobSource {
  const files = new Map<string, Uint8Array>([
    ['oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}')],
    ['index.json', Buffer.from('{"schemaVersion":2,"manifests":[]}')],
    ...[...blobs].map(([digest, bytes]) => [blobName(digest), bytes] as const),
  ]);
  const reader = new LayoutReader('the image', {
    size: async (name) => files.get(name)?.length,
    read: async (name) => files.get(name)!,
    chunks: (name) => streamOf(files.get(name)!, 50),
    missing: () => new LatchkeyError('STATE_NOT_FOUND', 'there is no layout'),
  });
  if (directory === undefined) return reader;
  for (const [digest, bytes] of blobs) writeFileSync(join(directory, digestHex(digest)), bytes);
  return Object.assign(reader, { localPath: (digest: Digest) => join(directory, digestHex(digest)) });
}

async function inLayouts(
  encrypt: (source: StagedStore, encrypted: StagedStore) => Promise<Digest>,
): Promise<Pick<EncryptedFixture, 'blobs' | 'root'>> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-hostile-'));
  try {
    const encrypted = join(directory, 'encrypted');
    const root = await encrypt(openLayout(join(directory, 'source')), openLayout(encrypted));
    return { root, blobs: await blobsOf(encrypted) };
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The blobs of an image layout. */
export async function blobsOf(layout: string): Promise<Map<Digest, Uint8Array>> {
  const folder = join(layout, 'blobs', 'sha256');
  const blobs = new Map<Digest, Uint8Array>();
  for (const name of await readdir(folder)) {
    const bytes = await readFile(join(folder, name));
    blobs.set(digestOf(bytes), bytes);
  }
  return blobs;
}

/** Small images made on the spot, with content that no other test has. */
import { randomBytes } from 'node:crypto';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf, type Digest } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore, ManifestBlob } from '#src/store/blob-store.ts';

export interface FakeImage {
  readonly manifest: ManifestBlob;
  readonly blobs: ReadonlyMap<Digest, Uint8Array>;
  readonly layers: readonly Descriptor[];
}

/** An image of random layers; its config names them by their own digests, as uncompressed layers would be. */
export function fakeImage(layerSizesBytes: readonly number[] = [1000], architecture = 'amd64'): FakeImage {
  const blobs = new Map<Digest, Uint8Array>();
  const add = (mediaType: string, bytes: Uint8Array): Descriptor => {
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const layers = layerSizesBytes.map((size) => add(MEDIA_TYPE.ociLayer, randomBytes(size)));
  const config = add(
    MEDIA_TYPE.ociConfig,
    Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture,
        rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.digest) },
      }),
    ),
  );
  const manifest = encodeImageDocument({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    config,
    layers,
  });
  return { manifest, blobs, layers };
}

/** An index over images, one platform each. */
export function fakeIndex(
  children: readonly (ManifestBlob & { readonly architecture?: string })[],
): ManifestBlob {
  return encodeImageDocument({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociIndex,
    manifests: children.map(({ descriptor, architecture }) =>
      architecture === undefined ? descriptor : { ...descriptor, platform: { os: 'linux', architecture } },
    ),
  });
}

/** Stores an image's blobs and manifest. */
export async function storeImage(
  store: BlobStore,
  image: FakeImage,
  tag?: string,
  isChild = false,
): Promise<void> {
  for (const [digest, bytes] of image.blobs) {
    await store.writeBlob({ mediaType: MEDIA_TYPE.ociLayer, digest, size: bytes.length }, () =>
      streamOf(bytes),
    );
  }
  await store.writeManifest(image.manifest, tag, { isChild });
}

/** Bytes as a stream of chunks. */
export async function* streamOf(bytes: Uint8Array, chunkBytes = 65_536): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += chunkBytes) {
    yield bytes.subarray(offset, offset + chunkBytes);
  }
}

/** Everything a stream gives. */
export async function bytesOf(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

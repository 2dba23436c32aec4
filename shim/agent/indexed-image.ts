/** An image of this node as the index holds it, and what others want of it. Pure. */
import type { FoundImage } from '#src/image/statement-match.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import type { ImageLayer } from './encrypted-image.ts';

export interface IndexedImage {
  readonly digest: Digest;
  readonly config: Digest;
  readonly layers: readonly ImageLayer[];
}

/** The keys to a layer of an image. */
export function recordsOfLayer(image: IndexedImage, layer: ImageLayer): SnapshotGateRecord[] {
  return layer.elements.map(({ header, encoded }) => ({
    imageKeyId: header.imageKeyId,
    imageDigest: image.digest,
    contact: header.contact,
    element: encoded,
    publicOptions: layer.publicOptions,
    blob: { digest: layer.digest, mediaType: layer.mediaType, sizeBytes: layer.sizeBytes },
  }));
}

/** The image as it is compared with a release statement. */
export function toFoundImage({ digest, config, layers }: IndexedImage): FoundImage {
  return {
    manifest: digest,
    config,
    layers: layers.map((layer) => ({
      mediaType: layer.mediaType,
      digest: layer.digest,
      sizeBytes: layer.sizeBytes,
      diffId: layer.diffId,
      isEncrypted: layer.encrypted,
      imageKeyIds: [...new Set(layer.elements.map(({ header }) => header.imageKeyId))],
    })),
  };
}

/**
 * New documents around changed layers: config, manifest and index of every platform. Annotations, subject, artifact
 * type and fields we do not know stay; Docker's types become OCI's, since only OCI manifests can carry encryption.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE, isLayer, ociLayerMediaType } from '#src/oci/media-types.ts';
import type { BlobDestination, ManifestBlob, TransferOptions } from '#src/store/blob-store.ts';
import type { ImageGraph, IndexNode, PlatformImage } from './image-graph.ts';

/** What stands for a layer in the new image. */
export interface ReplacementLayer {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
}

export interface RewrittenImage {
  /** Children before the index that names them; the root is the last. */
  readonly manifests: readonly ManifestBlob[];
  readonly root: ManifestBlob;
  readonly configs: readonly { readonly descriptor: Descriptor; readonly bytes: Uint8Array }[];
  /** Layers taken over from the source as they are. */
  readonly keptLayers: readonly Descriptor[];
}

/**
 * Makes the documents. Manifests that are no images (attestations) are left out.
 * @param replace gives the new layer for a position, or undefined to keep the one there
 */
export function rewriteImage(
  graph: ImageGraph,
  replace: (image: PlatformImage, position: number) => ReplacementLayer | undefined,
): RewrittenImage {
  const rewritten = new Map<Digest, ManifestBlob>();
  const configs: { descriptor: Descriptor; bytes: Uint8Array }[] = [];
  const keptLayers: Descriptor[] = [];
  for (const node of graph.nodes) {
    const { digest } = node.blob.descriptor;
    if (node.kind === 'image') {
      const replacements = node.manifest.layers.map((_layer, position) => replace(node, position));
      const config = rewriteConfig(node, replacements);
      configs.push(config);
      keptLayers.push(...node.manifest.layers.filter((_layer, at) => replacements[at] === undefined));
      rewritten.set(digest, rewriteManifest(node, replacements, config.descriptor));
    } else if (node.kind === 'index') {
      rewritten.set(digest, rewriteIndex(node, rewritten));
    }
  }
  const root = rewritten.get(graph.root.descriptor.digest);
  if (root === undefined) throw new TypeError('the graph lacks its root');
  return { manifests: [...rewritten.values()], root, configs, keptLayers };
}

type Replacements = readonly (ReplacementLayer | undefined)[];

function rewriteConfig(image: PlatformImage, replacements: Replacements): RewrittenImage['configs'][number] {
  const diffIds = image.diffIds.map((diffId, position) => replacements[position]?.diffId ?? diffId);
  const isSame = diffIds.every((diffId, position) => diffId === image.diffIds[position]);
  const bytes = isSame
    ? image.configBytes
    : Buffer.from(JSON.stringify({ ...image.config, rootfs: { ...image.config.rootfs, diff_ids: diffIds } }));
  const { mediaType } = image.manifest.config;
  return {
    descriptor: {
      ...image.manifest.config,
      mediaType: mediaType === MEDIA_TYPE.dockerConfig ? MEDIA_TYPE.ociConfig : mediaType,
      digest: digestOf(bytes),
      size: bytes.length,
      data: undefined,
    },
    bytes,
  };
}

function rewriteManifest(image: PlatformImage, replacements: Replacements, config: Descriptor): ManifestBlob {
  const layers = image.manifest.layers.map((layer, position) => {
    const replacement = replacements[position];
    if (replacement !== undefined) return replacement.descriptor;
    return isLayer(layer.mediaType) ? { ...layer, mediaType: ociLayerMediaType(layer.mediaType) } : layer;
  });
  return encodeImageDocument({ ...image.manifest, mediaType: MEDIA_TYPE.ociManifest, config, layers });
}

function rewriteIndex(node: IndexNode, rewritten: ReadonlyMap<Digest, ManifestBlob>): ManifestBlob {
  const manifests = node.index.manifests.flatMap((entry): Descriptor[] => {
    const child = rewritten.get(entry.digest);
    return child === undefined ? [] : [{ ...entry, ...child.descriptor, data: undefined }];
  });
  if (manifests.length === 0) {
    throw new LatchkeyError('INPUT_NOT_AN_IMAGE', `${node.blob.descriptor.digest} is an index of no images`);
  }
  return encodeImageDocument({ ...node.index, mediaType: MEDIA_TYPE.ociIndex, manifests });
}

/**
 * Writes configs and manifests; the tag moves with the last one, so the image is visible whole or not at all.
 * The layers must be in the destination already.
 * @throws LatchkeyError what the destination raises
 */
export async function writeImage(
  destination: BlobDestination,
  image: RewrittenImage,
  tag: string | undefined,
  options: TransferOptions = {},
): Promise<void> {
  const { signal } = options;
  for (const { descriptor, bytes } of image.configs) {
    if (await destination.hasBlob(descriptor, { signal })) continue;
    await destination.writeBlob(descriptor, () => once(bytes), { signal });
  }
  for (const manifest of image.manifests) {
    const isChild = manifest !== image.root;
    await destination.writeManifest(manifest, isChild ? undefined : tag, { signal, isChild });
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

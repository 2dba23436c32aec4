/**
 * New documents around changed layers: config, manifest and index of every platform, and the artifacts beside them.
 * Annotations, subject, artifact type and fields we do not know stay; what refers to a manifest of the image refers to
 * the new one; Docker's types become OCI's, since only OCI manifests can carry encryption.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, isDigest } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import type { ImageIndex } from '#src/oci/index.ts';
import type { ImageManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE, ociMediaType } from '#src/oci/media-types.ts';
import type { BlobDestination, ManifestBlob, TransferOptions } from '#src/store/blob-store.ts';
import { REFERENCE_DIGEST_ANNOTATION } from './attestations.ts';
import type { ArtifactNode, ImageGraph, IndexNode, PlatformImage } from './image-graph.ts';
import { type RewrittenConfig, rewriteConfig } from './rewrite-config.ts';

/** What stands for a layer in the new image. */
export interface ReplacementLayer {
  readonly descriptor: Descriptor;
  /** Undefined for a layer that the config does not count. */
  readonly diffId: Digest | undefined;
}

export interface RewriteOptions {
  /** Gives the new blob for a position of an artifact, or undefined to keep the one there. */
  readonly replaceDocument?:
    ((artifact: ArtifactNode, position: number) => Descriptor | undefined) | undefined;
  /** Artifacts that are left out. */
  readonly dropped?: ReadonlySet<ArtifactNode> | undefined;
  /** True takes out of the configs how the image was built. */
  readonly isHistoryScrubbed?: boolean | undefined;
}

export interface RewrittenImage {
  /** Children before the index that names them; the root is the last. */
  readonly manifests: readonly ManifestBlob[];
  /** Artifacts that refer to the image from outside. */
  readonly attached: readonly ManifestBlob[];
  readonly root: ManifestBlob;
  readonly configs: readonly RewrittenConfig[];
  /** Layers, and blobs of artifacts, taken over from the source as they are. */
  readonly keptLayers: readonly Descriptor[];
}

/**
 * Makes the documents.
 * @param replace gives the new layer for a position of an image, or undefined to keep the one there
 * @throws LatchkeyError INPUT_NOT_AN_IMAGE when nothing is left of an index
 */
export function rewriteImage(
  graph: ImageGraph,
  replace: (image: PlatformImage, position: number) => ReplacementLayer | undefined,
  options: RewriteOptions = {},
): RewrittenImage {
  const waiting = new Map(graph.nodes.map((node) => [node.blob.descriptor.digest, node]));
  const rewritten = new Map<Digest, ManifestBlob>();
  const configs: RewrittenConfig[] = [];
  const keptLayers: Descriptor[] = [];

  /** Gives the new manifest for an old one; undefined for one outside the image, or left out. */
  function resolve(digest: Digest): ManifestBlob | undefined {
    const node = waiting.get(digest);
    // A digest cannot be inside what it is the digest of, so this ends.
    waiting.delete(digest);
    if (node === undefined || (node.kind === 'artifact' && options.dropped?.has(node) === true)) {
      return rewritten.get(digest);
    }
    const blob = rewriteNode(node);
    rewritten.set(digest, blob);
    return blob;
  }

  function rewriteNode(node: ImageGraph['nodes'][number]): ManifestBlob {
    switch (node.kind) {
      case 'image': {
        const replacements = node.manifest.layers.map((_layer, position) => replace(node, position));
        const config = rewriteConfig(node, replacements, options.isHistoryScrubbed === true);
        configs.push(config);
        keptLayers.push(...node.manifest.layers.filter((_layer, at) => replacements[at] === undefined));
        const layers = node.manifest.layers.map((layer, at) => replacements[at]?.descriptor ?? inOci(layer));
        return renewed(node, { ...node.manifest, config: config.descriptor, layers }, resolve);
      }
      case 'artifact': {
        const replacements = node.manifest.layers.map((_layer, at) => options.replaceDocument?.(node, at));
        keptLayers.push(node.manifest.config);
        keptLayers.push(...node.manifest.layers.filter((_layer, at) => replacements[at] === undefined));
        const layers = node.manifest.layers.map((layer, at) => replacements[at] ?? layer);
        return renewed(node, { ...node.manifest, layers }, resolve);
      }
      case 'index':
        return rewriteIndex(node, resolve);
      case 'opaque':
        return node.blob;
    }
  }

  graph.nodes.forEach((node) => resolve(node.blob.descriptor.digest));
  const root = rewritten.get(graph.root.descriptor.digest);
  if (root === undefined) throw new TypeError('the graph lacks its root');
  const outside = new Set(graph.nodes.filter(isAttached).map(({ blob }) => blob.descriptor.digest));
  const all = [...rewritten].map(([old, blob]) => ({ blob, isOutside: outside.has(old) }));
  return {
    manifests: all.filter(({ isOutside }) => !isOutside).map(({ blob }) => blob),
    attached: all.filter(({ isOutside }) => isOutside).map(({ blob }) => blob),
    root,
    configs,
    keptLayers,
  };
}

function isAttached(node: ImageGraph['nodes'][number]): boolean {
  return node.kind === 'artifact' && node.isAttached === true;
}

type Resolve = (digest: Digest) => ManifestBlob | undefined;

function inOci(layer: Descriptor): Descriptor {
  return { ...layer, mediaType: ociMediaType(layer.mediaType) };
}

/** The new manifest; where it says what the old one said, the old bytes, which others may have signed. */
function renewed(node: PlatformImage | ArtifactNode, changed: ImageManifest, resolve: Resolve): ManifestBlob {
  const manifest = { ...changed, ...subjectIn(changed, resolve), mediaType: MEDIA_TYPE.ociManifest };
  const isSame = JSON.stringify(manifest) === JSON.stringify(node.manifest);
  return isSame ? node.blob : encodeImageDocument(manifest);
}

/** The subject, when there is one: of this image the new manifest; else as it was, but not inline, as it may be left out. */
function subjectIn(document: ImageManifest | ImageIndex, resolve: Resolve): { subject?: Descriptor } {
  const { subject } = document;
  if (subject === undefined) return {};
  const blob = resolve(subject.digest);
  return { subject: blob === undefined ? { ...subject, data: undefined } : renewedDescriptor(subject, blob) };
}

function rewriteIndex(node: IndexNode, resolve: Resolve): ManifestBlob {
  const manifests = node.index.manifests.flatMap((entry): Descriptor[] => {
    const child = resolve(entry.digest);
    if (child === undefined) return [];
    const annotations = renewedReference(entry.annotations, resolve);
    return [{ ...renewedDescriptor(entry, child), annotations }];
  });
  if (manifests.length === 0) {
    throw new LatchkeyError('INPUT_NOT_AN_IMAGE', `${node.blob.descriptor.digest} is an index of no images`);
  }
  return encodeImageDocument({
    ...node.index,
    ...subjectIn(node.index, resolve),
    mediaType: MEDIA_TYPE.ociIndex,
    manifests,
  });
}

function renewedDescriptor(old: Descriptor, { descriptor }: ManifestBlob): Descriptor {
  return { ...old, ...descriptor, data: undefined };
}

/** BuildKit's pointer from an attestation to its image. */
function renewedReference(
  annotations: Descriptor['annotations'],
  resolve: Resolve,
): Descriptor['annotations'] {
  const named = annotations?.[REFERENCE_DIGEST_ANNOTATION];
  const blob = isDigest(named) ? resolve(named) : undefined;
  if (blob === undefined) return annotations;
  return { ...annotations, [REFERENCE_DIGEST_ANNOTATION]: blob.descriptor.digest };
}

/**
 * Writes configs and manifests; the tag moves with the last one, so the image is visible whole or not at all. What is
 * attached to it follows, when there is something to be attached to.
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
  for (const manifest of image.attached) await destination.writeManifest(manifest, undefined, { signal });
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

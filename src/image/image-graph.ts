/** A whole image in memory except its layers: index, manifests and configs of all platforms, children first. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_CONFIG_BYTES, MAX_GRAPH_BYTES } from '#src/base/limits.ts';
import { type ImageConfig, diffIdsOf, parseConfig } from '#src/oci/config.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { ImageIndex } from '#src/oci/index.ts';
import type { ImageManifest } from '#src/oci/manifest.ts';
import { isImageConfig, isLayer } from '#src/oci/media-types.ts';
import { type Platform, formatPlatform } from '#src/oci/platform.ts';
import type { BlobSource, ManifestBlob, TransferOptions } from '#src/store/blob-store.ts';
import { type WalkOptions, walkGraph } from '#src/store/graph.ts';
import { collectBytes } from '#src/store/verified-stream.ts';

/** The image of one platform. */
export interface PlatformImage {
  readonly kind: 'image';
  readonly blob: ManifestBlob;
  readonly entry: Descriptor | undefined;
  readonly manifest: ImageManifest;
  readonly configBytes: Uint8Array;
  readonly config: ImageConfig;
  /** For each layer; undefined for one that the config does not count, which has no files. */
  readonly diffIds: readonly (Digest | undefined)[];
  readonly platform: Platform;
}

export interface IndexNode {
  readonly kind: 'index';
  readonly blob: ManifestBlob;
  readonly entry: Descriptor | undefined;
  readonly index: ImageIndex;
}

/** A manifest that is no container image, such as a build attestation. */
export interface ArtifactNode {
  readonly kind: 'artifact';
  readonly blob: ManifestBlob;
  readonly entry: Descriptor | undefined;
  readonly manifest: ImageManifest;
  /** True for one that no index of the image names: it refers to the image from outside. */
  readonly isAttached?: boolean | undefined;
}

/** What an index names by a type that we do not know. */
export interface OpaqueNode {
  readonly kind: 'opaque';
  readonly blob: ManifestBlob;
  readonly entry: Descriptor | undefined;
}

export interface ImageGraph {
  readonly source: BlobSource;
  readonly root: ManifestBlob;
  /** Children before the index that names them; the root is the last. */
  readonly nodes: readonly (PlatformImage | IndexNode | ArtifactNode | OpaqueNode)[];
}

/**
 * Reads an image.
 * @param reference tag or digest in the source; without one, its only or default image
 * @throws LatchkeyError INPUT_NOT_AN_IMAGE, INPUT_MALFORMED, LIMIT_EXCEEDED, and what the source raises
 */
export async function readImageGraph(
  source: BlobSource,
  reference: string | undefined,
  options: WalkOptions = {},
): Promise<ImageGraph> {
  const root = await source.readManifest(reference, options);
  const nodes: ImageGraph['nodes'][number][] = [];
  let sizeBytes = 0;
  for await (const { manifest: blob, document, entry } of walkGraph(source, root, options)) {
    if (document.kind === 'index') nodes.push({ kind: 'index', blob, entry, index: document.index });
    else if (document.kind === 'opaque') nodes.push({ kind: 'opaque', blob, entry });
    else nodes.push(await readPlatformImage(source, blob, entry, document.manifest, options));
    sizeBytes += sizeInMemory(nodes.at(-1));
    if (sizeBytes > MAX_GRAPH_BYTES) {
      throw new LatchkeyError(
        'LIMIT_EXCEEDED',
        `${source.location}: manifests and configs of the image have more than ${MAX_GRAPH_BYTES} bytes together`,
      );
    }
  }
  // With some passed over, whoever asked for that says what is missing.
  if (options.isWanted !== undefined || nodes.some((node) => node.kind === 'image')) {
    return { source, root, nodes };
  }
  throw new LatchkeyError(
    'INPUT_NOT_AN_IMAGE',
    `${source.location}: ${root.descriptor.digest} has no container image in it`,
    { hint: 'name a container image; artifacts such as charts and attestations have no layers to encrypt' },
  );
}

function sizeInMemory(node: ImageGraph['nodes'][number] | undefined): number {
  return (node?.blob.bytes.length ?? 0) + (node?.kind === 'image' ? node.configBytes.length : 0);
}

async function readPlatformImage(
  source: BlobSource,
  blob: ManifestBlob,
  entry: Descriptor | undefined,
  manifest: ImageManifest,
  options: TransferOptions,
): Promise<PlatformImage | ArtifactNode> {
  const { config: configDescriptor, layers } = manifest;
  if (!isImageConfig(configDescriptor.mediaType) || !layers.some(({ mediaType }) => isLayer(mediaType))) {
    return { kind: 'artifact', blob, entry, manifest };
  }
  const stream = source.openBlob(configDescriptor, { signal: options.signal });
  const configBytes = await collectBytes(stream, configDescriptor, MAX_CONFIG_BYTES);
  const config = parseConfig(configBytes);
  return {
    kind: 'image',
    blob,
    entry,
    manifest,
    configBytes,
    config,
    diffIds: diffIdsOf(config, manifest),
    platform: entry?.platform ?? config,
  };
}

/** The images of all platforms. */
export function platformImages(graph: ImageGraph): PlatformImage[] {
  return graph.nodes.filter((node) => node.kind === 'image');
}

/** `linux/amd64`, for messages and tables. */
export function platformName(image: PlatformImage): string {
  return formatPlatform(image.platform);
}

/** A whole image in memory except its layers: index, manifests and configs of all platforms, children first. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_CONFIG_BYTES } from '#src/base/limits.ts';
import { type ImageConfig, diffIdsOf, parseConfig } from '#src/oci/config.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { ImageIndex } from '#src/oci/index.ts';
import type { ImageManifest } from '#src/oci/manifest.ts';
import { isLayer } from '#src/oci/media-types.ts';
import { type Platform, formatPlatform } from '#src/oci/platform.ts';
import type { BlobSource, ManifestBlob, TransferOptions } from '#src/store/blob-store.ts';
import { walkGraph } from '#src/store/graph.ts';
import { collectBytes } from '#src/store/verified-stream.ts';

/** The image of one platform. */
export interface PlatformImage {
  readonly kind: 'image';
  readonly blob: ManifestBlob;
  readonly entry: Descriptor | undefined;
  readonly manifest: ImageManifest;
  readonly configBytes: Uint8Array;
  readonly config: ImageConfig;
  /** One for each layer. */
  readonly diffIds: readonly Digest[];
  readonly platform: Platform;
}

export interface IndexNode {
  readonly kind: 'index';
  readonly blob: ManifestBlob;
  readonly entry: Descriptor | undefined;
  readonly index: ImageIndex;
}

/** A manifest without filesystem layers, such as a build attestation. */
export interface ArtifactNode {
  readonly kind: 'artifact';
  readonly blob: ManifestBlob;
  readonly entry: Descriptor | undefined;
  readonly manifest: ImageManifest;
}

export interface ImageGraph {
  readonly source: BlobSource;
  readonly root: ManifestBlob;
  /** Children before the index that names them; the root is the last. */
  readonly nodes: readonly (PlatformImage | IndexNode | ArtifactNode)[];
}

/**
 * Reads an image.
 * @param reference tag or digest in the source; without one, its only or default image
 * @throws LatchkeyError INPUT_NOT_AN_IMAGE, INPUT_MALFORMED, LIMIT_EXCEEDED, and what the source raises
 */
export async function readImageGraph(
  source: BlobSource,
  reference: string | undefined,
  options: TransferOptions = {},
): Promise<ImageGraph> {
  const root = await source.readManifest(reference, options);
  const nodes: ImageGraph['nodes'][number][] = [];
  for await (const { manifest: blob, document, entry } of walkGraph(source, root, options)) {
    if (document.kind === 'index') nodes.push({ kind: 'index', blob, entry, index: document.index });
    else nodes.push(await readPlatformImage(source, blob, entry, document.manifest, options));
  }
  if (nodes.some((node) => node.kind === 'image')) return { source, root, nodes };
  throw new LatchkeyError(
    'INPUT_NOT_AN_IMAGE',
    `${source.location}: ${root.descriptor.digest} has no container image in it`,
    { hint: 'name a container image; artifacts such as charts and attestations have no layers to encrypt' },
  );
}

async function readPlatformImage(
  source: BlobSource,
  blob: ManifestBlob,
  entry: Descriptor | undefined,
  manifest: ImageManifest,
  options: TransferOptions,
): Promise<PlatformImage | ArtifactNode> {
  if (!manifest.layers.some((layer) => isLayer(layer.mediaType))) {
    return { kind: 'artifact', blob, entry, manifest };
  }
  const stream = source.openBlob(manifest.config, { signal: options.signal });
  const configBytes = await collectBytes(stream, manifest.config, MAX_CONFIG_BYTES);
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

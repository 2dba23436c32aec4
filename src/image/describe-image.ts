/** An image in the terms of a release statement: from its documents alone, whether just made or read somewhere. Pure. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { LATCHKEY_ANNOTATION, parseElement } from '#src/keywrap/latchkey-element.ts';
import { diffIdsOf, parseConfig } from '#src/oci/config.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { parseImageDocument } from '#src/oci/document.ts';
import type { ImageManifest } from '#src/oci/manifest.ts';
import { isEncrypted, isImageConfig, isLayer, isUnknownDocument } from '#src/oci/media-types.ts';
import type { Platform } from '#src/oci/platform.ts';
import type { ManifestBlob } from '#src/store/blob-store.ts';
import type { ImageGraph } from './image-graph.ts';
import type { RewrittenImage } from './rewrite.ts';
import type { ImageDescription, StatementImage, StatementLayer } from './statement.ts';

/**
 * Describes an image that was read.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function describeGraph(graph: ImageGraph): ImageDescription {
  const images = graph.nodes.filter((node) => node.kind === 'image');
  return describe(
    graph.root,
    graph.nodes.map(({ blob }) => blob),
    new Map(images.map(({ manifest, configBytes }) => [manifest.config.digest, configBytes])),
  );
}

/**
 * Describes an image that was made.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function describeRewritten(image: RewrittenImage): ImageDescription {
  const configs = image.configs.map(({ descriptor, bytes }) => [descriptor.digest, bytes] as const);
  return describe(image.root, image.manifests, new Map(configs));
}

function describe(
  root: ManifestBlob,
  manifests: readonly ManifestBlob[],
  configs: ReadonlyMap<Digest, Uint8Array>,
): ImageDescription {
  const documents = manifests
    .filter(({ descriptor }) => !isUnknownDocument(descriptor.mediaType))
    .map(({ bytes, descriptor }) => ({
      digest: descriptor.digest,
      document: parseImageDocument(bytes, descriptor.mediaType),
    }));
  const platforms = new Map<Digest, Platform>();
  for (const { document } of documents) {
    if (document.kind !== 'index') continue;
    for (const { digest, platform } of document.index.manifests) {
      if (platform !== undefined) platforms.set(digest, platform);
    }
  }
  const images = documents.flatMap(({ digest, document }): StatementImage[] => {
    if (document.kind === 'index') return [];
    const { manifest } = document;
    // The same question that sorts the nodes of a graph.
    const isImage =
      isImageConfig(manifest.config.mediaType) && manifest.layers.some(({ mediaType }) => isLayer(mediaType));
    if (!isImage) return [];
    const configBytes = configs.get(manifest.config.digest);
    if (configBytes === undefined) throw new TypeError('an image without its config');
    return [describePlatform(digest, manifest, configBytes, platforms.get(digest))];
  });
  const { digest, mediaType } = root.descriptor;
  return {
    root: { digest, mediaType },
    manifests: manifests.map((manifest) => manifest.descriptor.digest),
    images,
  };
}

function describePlatform(
  digest: Digest,
  manifest: ImageManifest,
  configBytes: Uint8Array,
  platform: Platform | undefined,
): StatementImage {
  const config = parseConfig(configBytes);
  const diffIds = diffIdsOf(config, manifest);
  return {
    platform: platformOf(platform ?? config),
    manifest: digest,
    config: manifest.config.digest,
    layers: manifest.layers.map((layer, position): StatementLayer => ({
      mediaType: layer.mediaType,
      digest: layer.digest,
      sizeBytes: layer.size,
      diffId: diffIds[position],
      isEncrypted: isEncrypted(layer.mediaType),
      imageKeyIds: imageKeyIdsOf(layer),
    })),
  };
}

/** The fields the spec names, without those that a config has beside them. */
function platformOf(value: Platform): Platform {
  const { os, architecture, variant } = value;
  return {
    os,
    architecture,
    variant: variant === '' ? undefined : variant,
    'os.version': value['os.version'],
    'os.features': value['os.features'],
  };
}

/** Elements that are not ours are no key ids; what is wrong with them shows when somebody opens the layer. */
function imageKeyIdsOf(layer: Descriptor): string[] {
  const elements = layer.annotations?.[LATCHKEY_ANNOTATION]?.split(',') ?? [];
  const ids = elements.slice(0, MAX_WRAPPED_KEYS).flatMap((element) => {
    try {
      return [parseElement(Buffer.from(element, 'base64')).header.imageKeyId];
    } catch (error) {
      if (error instanceof LatchkeyError) return [];
      throw error;
    }
  });
  return [...new Set(ids)];
}

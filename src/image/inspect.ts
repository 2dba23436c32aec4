/** What an image shows to anybody: its platforms and layers, which are encrypted and for whom, and what stays in the clear. */

import { toLatchkeyError } from '#src/base/errors.ts';
import {
  WRAPPED_KEYS_PREFIX,
  parseWrappedKeys,
  publicOptionsOf,
  schemesOf,
} from '#src/keywrap/annotations.ts';

import { JWE_ANNOTATION, parseJwe } from '#src/keywrap/jwe.ts';
import { LATCHKEY_ANNOTATION, parseElement } from '#src/keywrap/latchkey-element.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { isEncrypted } from '#src/oci/media-types.ts';
import { type ImageGraph, type PlatformImage, platformName } from './image-graph.ts';

/** One who can open a layer, as far as the annotations say. */
export interface LayerRecipient {
  /** `jwe`, `pkcs7`, `provider.latchkey` ... */
  readonly scheme: string;
  readonly imageKeyId?: string | undefined;
  readonly organizationId?: string | undefined;
  readonly contact?: string | undefined;
  /** How many keys the envelope is for, where it says. */
  readonly keys?: number | undefined;
}

export interface LayerInspection {
  readonly position: number;
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffId: Digest;
  readonly isEncrypted: boolean;
  readonly recipients: readonly LayerRecipient[];
  /** Why nobody will be able to decrypt it, when that can be seen. */
  readonly problem?: string | undefined;
}

export interface PlatformInspection {
  readonly platform: string;
  readonly digest: Digest;
  readonly layers: readonly LayerInspection[];
  /** Read by anybody who can pull the image, also when every layer is encrypted. */
  readonly visible: {
    readonly env: readonly string[];
    readonly entrypoint: readonly string[];
    readonly cmd: readonly string[];
    readonly labels: Readonly<Record<string, string>>;
    readonly historyEntries: number;
  };
}

export interface ImageInspection {
  readonly location: string;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly platforms: readonly PlatformInspection[];
  /** Manifests without layers, such as attestations. */
  readonly artifacts: readonly Digest[];
}

/** Describes an image; a layer with bad annotations is described too, with its problem. */
export function inspectImage(graph: ImageGraph): ImageInspection {
  return {
    location: graph.source.location,
    digest: graph.root.descriptor.digest,
    mediaType: graph.root.descriptor.mediaType,
    platforms: graph.nodes.filter((node) => node.kind === 'image').map(inspectPlatform),
    artifacts: graph.nodes
      .filter((node) => node.kind === 'artifact')
      .map((node) => node.blob.descriptor.digest),
  };
}

function inspectPlatform(image: PlatformImage): PlatformInspection {
  const { config } = image.config;
  return {
    platform: platformName(image),
    digest: image.blob.descriptor.digest,
    layers: image.manifest.layers.map((layer, position) => inspectLayer(image, layer, position)),
    visible: {
      env: config?.Env ?? [],
      entrypoint: config?.Entrypoint ?? [],
      cmd: config?.Cmd ?? [],
      labels: config?.Labels ?? {},
      historyEntries: image.config.history?.length ?? 0,
    },
  };
}

function inspectLayer(image: PlatformImage, layer: Descriptor, position: number): LayerInspection {
  const diffId = image.diffIds[position];
  if (diffId === undefined) throw new TypeError('a layer without a diff ID');
  const encrypted = isEncrypted(layer.mediaType);
  const common = {
    position,
    mediaType: layer.mediaType,
    digest: layer.digest,
    sizeBytes: layer.size,
    diffId,
    isEncrypted: encrypted,
  };
  if (!encrypted) return { ...common, recipients: [] };
  try {
    publicOptionsOf(layer.annotations);
    const recipients = recipientsOf(layer);
    const problem = recipients.length === 0 ? 'it has no wrapped key' : undefined;
    return { ...common, recipients, problem };
  } catch (error) {
    const known = toLatchkeyError(error);
    return { ...common, recipients: [], problem: known.message };
  }
}

function recipientsOf(layer: Descriptor): LayerRecipient[] {
  const elementsOf = (annotation: string) => parseWrappedKeys(layer.annotations?.[annotation] ?? '');
  return schemesOf(layer.annotations).flatMap((scheme): LayerRecipient[] => {
    const annotation = `${WRAPPED_KEYS_PREFIX}${scheme}`;
    if (annotation === LATCHKEY_ANNOTATION) {
      return elementsOf(annotation).map((element) => {
        const { imageKeyId, organizationId, contact } = parseElement(element).header;
        return { scheme, imageKeyId, organizationId, contact };
      });
    }
    if (annotation === JWE_ANNOTATION) {
      return elementsOf(annotation).map((element) => ({ scheme, keys: parseJwe(element).length }));
    }
    return [{ scheme }];
  });
}

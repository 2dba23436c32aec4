/** Encrypts a planned image: layers first, then configs, manifests and index are rewritten around them. */
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import { type EncryptedLayer, type StagedStore, encryptLayer } from './encrypt-layer.ts';
import { HashThread } from './hash-thread.ts';
import type { ImageGraph } from './image-graph.ts';
import type { EncryptionPlan, LayerPlan } from './plan.ts';
import { type RewrittenImage, rewriteImage } from './rewrite.ts';

export interface EncryptionEvents {
  /** A layer begins. */
  readonly onLayer?: ((layer: LayerPlan, number: number, total: number) => void) | undefined;
  readonly onLayerDone?: (() => void) | undefined;
}

export interface EncryptionOptions extends TransferOptions, EncryptionEvents {
  readonly source: BlobSource;
  readonly graph: ImageGraph;
  readonly plan: EncryptionPlan;
  /** Where ciphertext, configs and manifests go; plain layers are not copied. */
  readonly destination: StagedStore;
  readonly wrappers: readonly KeyWrapper[];
  readonly isSalted: boolean;
}

/**
 * Encrypts all chosen layers of all platforms, each once, and makes the documents around them. Nothing points at
 * the result until it is written.
 * @throws LatchkeyError as {@link encryptLayer}
 */
export async function encryptImage(options: EncryptionOptions): Promise<RewrittenImage> {
  const chosen = distinctLayers(options.plan);
  const encrypted = new Map<string, EncryptedLayer>();
  let thread: HashThread | undefined;
  const layerOptions = { ...options, thread: () => (thread ??= new HashThread()) };
  try {
    for (const [index, layer] of chosen.entries()) {
      options.onLayer?.(layer, index + 1, chosen.length);
      encrypted.set(layerIdentity(layer), await encryptLayer(layer, layerOptions));
      options.onLayerDone?.();
    }
  } finally {
    await thread?.close();
  }
  const layersOf = new Map<Digest, readonly LayerPlan[]>(
    options.plan.platforms.map(({ image, layers }) => [image.blob.descriptor.digest, layers]),
  );
  return rewriteImage(options.graph, (image, position) => {
    const layer = layersOf.get(image.blob.descriptor.digest)?.[position];
    return layer?.isEncrypted === true ? encrypted.get(layerIdentity(layer)) : undefined;
  });
}

/** Layers that several platforms share are encrypted once, so they stay shared. */
function distinctLayers(plan: EncryptionPlan): LayerPlan[] {
  const all = plan.platforms.flatMap(({ layers }) => layers.filter((layer) => layer.isEncrypted));
  return [...new Map(all.map((layer) => [layerIdentity(layer), layer])).values()];
}

function layerIdentity(layer: LayerPlan): string {
  return `${layer.descriptor.mediaType} ${layer.descriptor.digest} ${layer.diffId}`;
}

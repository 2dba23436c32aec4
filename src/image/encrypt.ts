/** Encrypts a planned image: layers first, then configs, manifests and index are rewritten around them. */
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import { type EncryptedLayer, type StagedStore, encryptLayer } from './encrypt-layer.ts';
import type { ImageGraph } from './image-graph.ts';
import { type LayerWork, runLayers } from './layer-lanes.ts';
import type { EncryptedLayerPlan, LayerPlan } from './layer-plan.ts';
import type { EncryptionPlan } from './plan.ts';
import { type RewrittenImage, rewriteImage } from './rewrite.ts';

/** To salt a layer it is unpacked: one thread's work, and the longest part when it compresses well. */
const SALTED_LAYERS_AT_A_TIME = 2;

export interface EncryptionEvents {
  /** The layers begin. */
  readonly onLayers?: ((count: number, totalBytes: number) => void) | undefined;
  readonly onLayersDone?: (() => void) | undefined;
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
  options.onLayers?.(chosen.length, totalBytes(chosen));
  const works = chosen.map((layer): LayerWork => {
    const isSalted = options.isSalted && layer.isSaltable;
    const run: LayerWork['run'] = async (signal, thread) => {
      encrypted.set(
        layerIdentity(layer),
        await encryptLayer(layer, { ...options, isSalted, signal, thread }),
      );
    };
    return { sizeBytes: layer.descriptor.size, run };
  });
  await runLayers(works, options.isSalted ? SALTED_LAYERS_AT_A_TIME : 1, options.signal);
  options.onLayersDone?.();
  return rewritePlanned(options, (layer) => layer.reuse ?? encrypted.get(layerIdentity(layer)));
}

function rewritePlanned(
  { graph, plan }: EncryptionOptions,
  encryptedLayer: (layer: EncryptedLayerPlan) => EncryptedLayer | undefined,
): RewrittenImage {
  const layersOf = new Map<Digest, readonly LayerPlan[]>(
    plan.platforms.map(({ image, layers }) => [image.blob.descriptor.digest, layers]),
  );
  const documentsOf = new Map(plan.artifacts.map(({ node, documents }) => [node, documents]));
  // What nobody decided about is left out: it may tell what is in the image.
  const dropped = plan.artifacts.filter(({ action }) => action === 'drop' || action === 'undecided');
  return rewriteImage(
    graph,
    (image, position) => {
      const layer = layersOf.get(image.blob.descriptor.digest)?.[position];
      return layer?.isEncrypted === true ? encryptedLayer(layer) : undefined;
    },
    {
      replaceDocument: (artifact, position) => {
        const document = documentsOf.get(artifact)?.[position];
        return document === undefined ? undefined : encryptedLayer(document)?.descriptor;
      },
      dropped: new Set(dropped.map(({ node }) => node)),
      isHistoryScrubbed: plan.isHistoryScrubbed,
    },
  );
}

/** Layers that several platforms share are encrypted once, so they stay shared. */
function distinctLayers({ platforms, artifacts }: EncryptionPlan): EncryptedLayerPlan[] {
  const all = [
    ...platforms.flatMap(({ layers }) =>
      layers.filter((layer) => layer.isEncrypted).filter((layer) => layer.reuse === undefined),
    ),
    ...artifacts.flatMap(({ documents }) => documents),
  ];
  return [...new Map(all.map((layer) => [layerIdentity(layer), layer])).values()];
}

function totalBytes(layers: readonly EncryptedLayerPlan[]): number {
  return layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
}

function layerIdentity(layer: EncryptedLayerPlan): string {
  return `${layer.descriptor.mediaType} ${layer.descriptor.digest} ${layer.diffId}`;
}

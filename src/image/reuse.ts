/** Releases that reuse: layers that did not change keep blob, salt and digest, so that customers download only what is new. */
import type { Digest } from '#src/oci/digest.ts';
import { publicOptionsOf, withoutEncryption, wrapLayerKey } from '#src/keywrap/annotations.ts';
import type { KeyUnwrapper, KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type EarlierLayer, openEarlierLayers, rewrapEarlierLayers } from './earlier-layers.ts';
import { type ImageGraph, platformImages, platformName } from './image-graph.ts';
import type { EncryptedLayerPlan, LayerPlan } from './layer-plan.ts';
import type { ImageKeyMint } from './minted-image-key.ts';
import type { EncryptionPlan } from './plan.ts';

/** The earlier release, and what opens its layers. */
export interface ReuseRequest {
  /** As the user wrote it. */
  readonly name: string;
  readonly graph: ImageGraph;
  readonly keys:
    /** Private keys at hand: layers can be wrapped for anybody. */
    | { readonly kind: 'local'; readonly unwrappers: readonly KeyUnwrapper[] }
    /** Layer keys stay in the key server: layers are wrapped for license holders only. */
    | { readonly kind: 'key-server'; readonly mint: ImageKeyMint };
}

/** A layer of the earlier release that the new one takes over. */
export interface ReusedLayer {
  readonly sourceDiffId: Digest;
  readonly diffId: Digest;
  /** With the keys for the new release. */
  readonly descriptor: Descriptor;
}

export interface ReuseTarget {
  readonly isSalted: boolean;
  readonly wrappers: readonly KeyWrapper[];
  /** The image key and organization of a release whose layer keys stay in the key server. */
  readonly imageKey?: { readonly imageKeyId: string; readonly organizationId: string } | undefined;
}

/**
 * Finds the layers of the plan that the earlier release has and wraps their keys for the new one.
 * @throws LatchkeyError what opening the layers raises
 */
export async function takeLayers(
  plan: EncryptionPlan,
  { graph, name, keys }: ReuseRequest,
  { isSalted, wrappers, imageKey }: ReuseTarget,
): Promise<ReusedLayer[]> {
  if (keys.kind === 'local') {
    const earlier = await openEarlierLayers(graph, name, keys.unwrappers);
    return Promise.all(matchLayers(plan, earlier, isSalted).map((layer) => takeLayer(layer, wrappers)));
  }
  if (imageKey === undefined) throw new TypeError('the key server wraps for its own image keys only');
  const { imageKeyId, organizationId } = imageKey;
  const earlier = await rewrapEarlierLayers(graph, name, organizationId, keys.mint, imageKeyId);
  return Promise.all(matchLayers(plan, earlier, isSalted).map((layer) => takeLayer(layer, [])));
}

async function takeLayer(layer: EarlierLayer, wrappers: readonly KeyWrapper[]): Promise<ReusedLayer> {
  const { descriptor, diffId, sourceDiffId, key } = layer;
  const annotations =
    key.kind === 'wrapped'
      ? key.annotations
      : await wrapLayerKey(key.privateOptions, publicOptionsOf(descriptor.annotations), wrappers);
  return { sourceDiffId, diffId, descriptor: { ...descriptor, annotations } };
}

/** The earlier layers that are in the plan; one that is salted stands only for one that would be, and the other way round. */
export function matchLayers(
  plan: EncryptionPlan,
  earlier: readonly EarlierLayer[],
  isSalted: boolean,
): EarlierLayer[] {
  const wanted = new Set(encryptedLayers(plan).map(({ diffId }) => diffId));
  const matching = earlier.filter(
    ({ diffId, sourceDiffId }) => wanted.has(sourceDiffId) && (diffId !== sourceDiffId) === isSalted,
  );
  return [...new Map(matching.map((layer) => [layer.sourceDiffId, layer])).values()];
}

/** The plan with layers taken over: what they are known by stays, blob and keys are those of the earlier release. */
export function withReuse(
  plan: EncryptionPlan,
  name: string,
  reused: readonly Pick<ReusedLayer, 'sourceDiffId' | 'diffId' | 'descriptor'>[],
): EncryptionPlan {
  const bySource = new Map(reused.map((layer) => [layer.sourceDiffId, layer]));
  const replace = (layer: LayerPlan): LayerPlan => {
    const taken = layer.isEncrypted ? bySource.get(layer.diffId) : undefined;
    if (taken === undefined || !layer.isEncrypted) return layer;
    const annotations = {
      ...withoutEncryption(layer.descriptor.annotations),
      ...taken.descriptor.annotations,
    };
    const reuse = { descriptor: { ...taken.descriptor, annotations }, diffId: taken.diffId };
    return { ...layer, reuse, reason: `unchanged since ${name}` };
  };
  const platforms = plan.platforms.map((platform) => ({ ...platform, layers: platform.layers.map(replace) }));
  return { ...plan, platforms };
}

/** The blobs that a plan takes from the earlier release. */
export function reusedBlobs(plan: EncryptionPlan): Descriptor[] {
  return encryptedLayers(plan).flatMap(({ reuse }) => (reuse === undefined ? [] : [reuse.descriptor]));
}

function encryptedLayers(plan: EncryptionPlan): EncryptedLayerPlan[] {
  return plan.platforms.flatMap(({ layers }) => layers.filter((layer) => layer.isEncrypted));
}

/** What the user may want to know of an earlier release before the run. */
export function reuseNotes(
  plan: EncryptionPlan,
  { graph, name }: Pick<ReuseRequest, 'graph' | 'name'>,
): string[] {
  const earlier = new Set(platformImages(graph).map(platformName));
  const missing = plan.platforms.filter(({ platform }) => !earlier.has(platform));
  return missing.map(
    ({ platform }) =>
      `${name} has no image for ${platform}: layers that only this one has are encrypted anew`,
  );
}

/** From a plan to an encrypted image that others can pull. */
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import type { StagedStore } from './encrypt-layer.ts';
import { type EncryptionEvents, encryptImage } from './encrypt.ts';
import type { ImageGraph } from './image-graph.ts';
import { createMintedWrapper } from './minted-image-key.ts';
import { type EncryptionPlan, planIdentity } from './plan.ts';
import { type MadeImage, type PublicationOptions, type PublicationResult, publish } from './publication.ts';
import { type RegistrationTerms, createImageKey } from './registrar.ts';
import { type ReuseRequest, takeLayers, withReuse } from './reuse.ts';

export interface PublishOptions extends PublicationOptions, EncryptionEvents {
  readonly graph: ImageGraph;
  readonly plan: EncryptionPlan;
  /** Recipients beside the key server. */
  readonly wrappers: readonly KeyWrapper[];
  /** What names those recipients: a rerun for others must not find their ciphertext. */
  readonly recipientIds: readonly string[];
  readonly isSalted: boolean;
  /** An earlier release, whose layers are taken over where they did not change. */
  readonly reuse?: ReuseRequest | undefined;
}

export interface PublishResult extends PublicationResult {
  /** The plan as it was carried out: with the layers that were taken over. */
  readonly plan: EncryptionPlan;
}

/**
 * Encrypts and publishes.
 * @throws LatchkeyError what encrypting and {@link publish} raise
 */
export async function publishImage(options: PublishOptions): Promise<PublishResult> {
  const { graph, plan, reuse } = options;
  const result = await publish(options, {
    source: graph.source,
    earlier: reuse?.graph.source,
    sourceDigest: graph.root.descriptor.digest,
    identity: {
      source: graph.root.descriptor.digest,
      plan: planIdentity(plan),
      recipients: options.recipientIds,
      isSalted: options.isSalted,
      reuse: reuse?.graph.root.descriptor.digest,
    },
    make: (destination, terms) => makeImage(options, destination, terms),
  });
  return { ...result, plan: reuse === undefined ? plan : withReuse(plan, reuse.name, result.reused) };
}

async function makeImage(
  options: PublishOptions,
  destination: StagedStore,
  terms: RegistrationTerms | undefined,
): Promise<MadeImage> {
  const { reuse, isSalted } = options;
  const { source } = options.graph;
  const imageKey = terms === undefined ? undefined : await imageKeyFor(options, terms);
  const wrappers = imageKey === undefined ? options.wrappers : [imageKey.wrapper, ...options.wrappers];
  const reused =
    reuse === undefined ? [] : await takeLayers(options.plan, reuse, { isSalted, wrappers, imageKey });
  const plan = reuse === undefined ? options.plan : withReuse(options.plan, reuse.name, reused);
  const image = await encryptImage({ ...options, plan, source, destination, wrappers });
  return { image, keptLayers: image.keptLayers, reused, imageKey };
}

/** The image key is made here, unless it has to wrap layer keys that are not to be known here. */
async function imageKeyFor({ reuse }: PublishOptions, terms: RegistrationTerms) {
  if (reuse?.keys.kind !== 'key-server') return createImageKey(terms);
  const { mint } = reuse.keys;
  const imageKeyId = await mint.mint();
  return {
    imageKeyId,
    sealedImageKey: undefined,
    organizationId: terms.organizationId,
    wrapper: createMintedWrapper(mint, imageKeyId, terms),
  };
}

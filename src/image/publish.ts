/**
 * From a plan to an image that others can pull, in the order in which nothing can be lost: ciphertext, then the key to
 * the key server, then blobs, then manifests, and the tag last.
 */
import type { Clock } from '#src/base/clock.ts';
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { BlobStore, TransferOptions } from '#src/store/blob-store.ts';
import { copyBlobs, copyImage } from '#src/store/copy.ts';
import { walkGraph } from '#src/store/graph.ts';
import type { StagedStore } from './encrypt-layer.ts';
import { type EncryptionEvents, encryptImage } from './encrypt.ts';
import type { ImageGraph } from './image-graph.ts';
import type { EncryptionPlan } from './plan.ts';
import { type PushStaging, type StagedPush, withPushStaging } from './push-staging.ts';
import {
  type ImageKeyRegistrar,
  type RegistrationTerms,
  type SealedImageKey,
  createImageKey,
} from './registrar.ts';
import { type RewrittenImage, writeImage } from './rewrite.ts';

export interface PublishOptions extends TransferOptions, EncryptionEvents {
  readonly graph: ImageGraph;
  readonly plan: EncryptionPlan;
  readonly destination: BlobStore;
  readonly tag: string | undefined;
  /** Recipients beside the key server. */
  readonly wrappers: readonly KeyWrapper[];
  /** What names those recipients: a rerun for others must not find their ciphertext. */
  readonly recipientIds: readonly string[];
  readonly registrar?: ImageKeyRegistrar | undefined;
  /** How the key server will list the image. */
  readonly repository: string;
  readonly isSalted: boolean;
  /** Directory for ciphertext on its way to a registry. */
  readonly cacheDirectory: string;
  readonly clock: Clock;
  /** The push to a registry begins. */
  readonly onPush?: ((totalBytes: number) => void) | undefined;
}

export interface PublishResult {
  readonly root: Digest;
  readonly imageDigests: readonly Digest[];
  readonly imageKeyId?: string | undefined;
  /** True when ciphertext of an earlier, failed run was used. */
  readonly isResumed: boolean;
}

/**
 * Encrypts and publishes.
 * @throws LatchkeyError what encrypting, the key server and the destination raise; the tag then is as it was
 */
export async function publishImage(options: PublishOptions): Promise<PublishResult> {
  const { destination } = options;
  const terms = await options.registrar?.prepare();
  if (isStaged(destination)) return publishHere(options, terms, destination);
  const identity = {
    source: options.graph.root.descriptor.digest,
    layers: options.plan.platforms.map(({ layers }) => layers.map((layer) => layer.isEncrypted)),
    destination: `${options.destination.location}:${options.tag ?? ''}`,
    recipients: options.recipientIds,
    product: options.registrar?.productCode,
    // A key sealed for one key server is of no use to another.
    importKey: terms?.importPublicKeyJwk,
    isSalted: options.isSalted,
  };
  return withPushStaging(options.cacheDirectory, identity, options.clock.nowMs(), (staging) =>
    publishStaged(options, terms, staging),
  );
}

type Terms = RegistrationTerms | undefined;

function isStaged(store: BlobStore): store is StagedStore {
  return store.staging !== undefined;
}

/** To a layout on this machine: ciphertext goes straight to its place, no tag points at it yet. */
async function publishHere(
  options: PublishOptions,
  terms: Terms,
  destination: StagedStore,
): Promise<PublishResult> {
  const { image, imageKey } = await encrypt(options, terms, destination);
  await copyBlobs(options.graph.source, destination, image.keptLayers, { signal: options.signal });
  const push = stagedPush(options, image, imageKey);
  await register(options, push);
  await writeImage(destination, image, options.tag, { signal: options.signal });
  return { ...resultOf(push, image), isResumed: false };
}

async function publishStaged(
  options: PublishOptions,
  terms: Terms,
  staging: PushStaging,
): Promise<PublishResult> {
  const push = staging.earlier ?? (await stage(options, terms, staging));
  await register(options, push);
  const { signal, onBytes } = options;
  const { store } = staging;
  const layers = await layersOf(store, push);
  options.onPush?.([...layers, ...push.keptLayers].reduce((sum, { size }) => sum + size, 0));
  await copyBlobs(options.graph.source, options.destination, push.keptLayers, { signal, onBytes });
  const manifests: Digest[] = [];
  await copyImage(store, options.destination, {
    reference: push.root,
    tag: options.tag,
    signal,
    onBytes,
    onEvent: ({ kind, descriptor }) => {
      if (kind === 'manifest') manifests.push(descriptor.digest);
    },
  });
  await staging.remove();
  return {
    root: push.root,
    imageDigests: manifests,
    imageKeyId: push.registration?.imageKeyId,
    isResumed: staging.earlier !== undefined,
  };
}

async function stage(options: PublishOptions, terms: Terms, staging: PushStaging): Promise<StagedPush> {
  const { image, imageKey } = await encrypt(options, terms, staging.store);
  await writeImage(staging.store, image, undefined, { signal: options.signal });
  const push = stagedPush(options, image, imageKey);
  await staging.complete(push);
  return push;
}

async function encrypt(
  options: PublishOptions,
  terms: Terms,
  destination: StagedStore,
): Promise<{ image: RewrittenImage; imageKey: SealedImageKey | undefined }> {
  const imageKey = terms === undefined ? undefined : await createImageKey(terms);
  const wrappers = imageKey === undefined ? options.wrappers : [imageKey.wrapper, ...options.wrappers];
  const source = options.graph.source;
  return { image: await encryptImage({ ...options, source, destination, wrappers }), imageKey };
}

function stagedPush(
  options: PublishOptions,
  image: RewrittenImage,
  imageKey: SealedImageKey | undefined,
): StagedPush {
  const root = image.root.descriptor.digest;
  const { keptLayers } = image;
  if (imageKey === undefined || options.registrar === undefined) return { root, keptLayers };
  const registration = {
    imageKeyId: imageKey.imageKeyId,
    sealedImageKey: imageKey.sealedImageKey,
    imageDigests: digestsOf(image),
    repository: options.repository,
    version: options.tag ?? root,
    productCode: options.registrar.productCode,
  };
  return { root, keptLayers, registration };
}

async function register(options: PublishOptions, push: StagedPush): Promise<void> {
  if (push.registration !== undefined) await options.registrar?.register(push.registration);
}

function digestsOf(image: RewrittenImage): Digest[] {
  return image.manifests.map(({ descriptor }) => descriptor.digest);
}

function resultOf(push: StagedPush, image: RewrittenImage): Omit<PublishResult, 'isResumed'> {
  return { root: push.root, imageDigests: digestsOf(image), imageKeyId: push.registration?.imageKeyId };
}

/** The layers that wait in the staging layout. */
async function layersOf(store: StagedStore, push: StagedPush): Promise<Descriptor[]> {
  const layers: Descriptor[] = [];
  for await (const { document } of walkGraph(store, await store.readManifest(push.root))) {
    if (document.kind === 'manifest') layers.push(...document.manifest.layers);
  }
  const kept = new Set(push.keptLayers.map(({ digest }) => digest));
  return layers.filter(({ digest }) => !kept.has(digest));
}

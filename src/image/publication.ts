/**
 * From an image that is made on this machine to one that others can pull, in the order in which nothing can be lost:
 * ciphertext, then the key to the key server, then blobs, then manifests, the tag, and the signed statement last.
 */
import type { KeyObject } from 'node:crypto';
import type { Clock } from '#src/base/clock.ts';
import { keyThumbprint } from '#src/crypto/signing-key.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { BlobSource, BlobStore, TransferOptions } from '#src/store/blob-store.ts';
import { copyBlobs, copyImage } from '#src/store/copy.ts';
import { walkGraph } from '#src/store/graph.ts';
import { describeRewritten } from './describe-image.ts';
import type { StagedStore } from './encrypt-layer.ts';
import { type PushStaging, type StagedPush, withPushStaging } from './push-staging.ts';
import type { ImageKeyRegistrar, RegistrationTerms } from './registrar.ts';
import type { ReusedLayer } from './reuse.ts';
import { type RewrittenImage, writeImage } from './rewrite.ts';
import { attachReleaseStatement } from './statement-referrer.ts';
import { type ReleaseStatement, signStatement, statementEnvelope } from './statement.ts';

export interface PublicationOptions extends TransferOptions {
  readonly destination: BlobStore;
  readonly tag: string | undefined;
  readonly registrar?: ImageKeyRegistrar | undefined;
  /** The vendor's own key, which signs the statement of the release beside the key server. */
  readonly statementKey?: KeyObject | undefined;
  /** How the key server will list the image. */
  readonly repository: string;
  /** Directory for ciphertext on its way to a registry. */
  readonly cacheDirectory: string;
  readonly clock: Clock;
  /** The push to a registry begins. */
  readonly onPush?: ((totalBytes: number) => void) | undefined;
}

/** Documents and new blobs lie in the store that they were made in. */
export interface MadeImage {
  readonly image: RewrittenImage;
  /** Blobs that are still in the source. */
  readonly keptLayers: readonly Descriptor[];
  /** Blobs that are still in an earlier release. */
  readonly reused: readonly ReusedLayer[];
  /** Undefined when no key server is involved. */
  readonly imageKey?: ReleasedImageKey | undefined;
}

/** An image key as a release is registered with it. */
export interface ReleasedImageKey {
  readonly imageKeyId: string;
  readonly organizationId: string;
  /** Undefined for one that the key server has made itself. */
  readonly sealedImageKey?: string | undefined;
}

/** What makes the image, and where the blobs are that it does not make. */
export interface ImageProduction {
  readonly source: BlobSource;
  readonly earlier?: BlobSource | undefined;
  /** The plain image, where that is known. */
  readonly sourceDigest?: Digest | undefined;
  /** Everything beside destination and key server that decides what the result is. */
  readonly identity: unknown;
  make(destination: StagedStore, terms: RegistrationTerms | undefined): Promise<MadeImage>;
}

export interface PublicationResult {
  readonly root: Digest;
  readonly imageDigests: readonly Digest[];
  /** Attestations that refer to the image from outside. */
  readonly attached: readonly Digest[];
  readonly imageKeyId?: string | undefined;
  /** The manifest that carries the signed statement; undefined when nobody signed one, so nobody can verify the image. */
  readonly statement?: Digest | undefined;
  /** Layers taken over from an earlier release. */
  readonly reused: readonly ReusedLayer[];
  /** True when ciphertext of an earlier, failed run was used. */
  readonly isResumed: boolean;
}

/**
 * Makes and publishes an image.
 * @throws LatchkeyError what making it, the key server and the destination raise; the tag then is as it was, unless
 *   only the statement could not be attached, which the message says
 */
export async function publish(
  options: PublicationOptions,
  production: ImageProduction,
): Promise<PublicationResult> {
  const { destination } = options;
  const terms = await options.registrar?.prepare();
  if (isStaged(destination)) return publishHere(options, production, terms, destination);
  const identity = {
    production: production.identity,
    destination: `${destination.location}:${options.tag ?? ''}`,
    product: options.registrar?.productCode,
    // A key sealed for one key server is of no use to another.
    importKey: terms?.importPublicKeyJwk,
    statementKey: options.statementKey === undefined ? undefined : keyThumbprint(options.statementKey),
  };
  return withPushStaging(
    options.cacheDirectory,
    identity,
    options.clock.nowMs(),
    (staging) => publishStaged(options, production, terms, staging),
    options.signal,
  );
}

type Terms = RegistrationTerms | undefined;

function isStaged(store: BlobStore): store is StagedStore {
  return store.staging !== undefined;
}

/** To a layout on this machine: ciphertext goes straight to its place, no tag points at it yet. */
async function publishHere(
  options: PublicationOptions,
  production: ImageProduction,
  terms: Terms,
  destination: StagedStore,
): Promise<PublicationResult> {
  const made = await production.make(destination, terms);
  const push = stagedPush(options, production, made);
  await copyElsewhere(production, push, destination, { signal: options.signal });
  const envelope = await register(options, push);
  await writeImage(destination, made.image, options.tag, { signal: options.signal });
  const statement = await attach(options, made.image.root.descriptor, envelope);
  return { ...resultOf(push, digestsOf(made.image)), statement, isResumed: false };
}

async function publishStaged(
  options: PublicationOptions,
  production: ImageProduction,
  terms: Terms,
  staging: PushStaging,
): Promise<PublicationResult> {
  const push = staging.earlier ?? (await stage(options, production, terms, staging));
  const envelope = await register(options, push);
  const { signal, onBytes } = options;
  const { store } = staging;
  const layers = await layersOf(store, push);
  options.onPush?.([...layers, ...push.keptLayers].reduce((sum, { size }) => sum + size, 0));
  await copyElsewhere(production, push, options.destination, { signal, onBytes });
  const manifests: Digest[] = [];
  const root = await copyImage(store, options.destination, {
    reference: push.root,
    tag: options.tag,
    signal,
    onBytes,
    onEvent: ({ kind, descriptor }) => {
      if (kind === 'manifest') manifests.push(descriptor.digest);
    },
  });
  for (const reference of push.attached) {
    await copyImage(store, options.destination, { reference, signal, onBytes });
  }
  const statement = await attach(options, root, envelope);
  await staging.remove();
  return { ...resultOf(push, manifests), statement, isResumed: staging.earlier !== undefined };
}

async function stage(
  options: PublicationOptions,
  production: ImageProduction,
  terms: Terms,
  staging: PushStaging,
): Promise<StagedPush> {
  const made = await production.make(staging.store, terms);
  await writeImage(staging.store, made.image, undefined, { signal: options.signal });
  const push = stagedPush(options, production, made);
  await staging.complete(push);
  return push;
}

/** Blobs that were not made here; one that the destination has, or can take over by itself, is not even read. */
async function copyElsewhere(
  { source, earlier }: ImageProduction,
  { keptLayers, reused }: StagedPush,
  destination: BlobStore,
  options: TransferOptions,
): Promise<void> {
  await copyBlobs(source, destination, keptLayers, options);
  if (earlier === undefined) return;
  await copyBlobs(
    earlier,
    destination,
    reused.map(({ descriptor }) => descriptor),
    options,
  );
}

function stagedPush(options: PublicationOptions, production: ImageProduction, made: MadeImage): StagedPush {
  const { image, imageKey, keptLayers, reused } = made;
  const { statementKey, registrar } = options;
  const root = image.root.descriptor.digest;
  const attached = image.attached.map(({ descriptor }) => descriptor.digest);
  const push = { root, attached, keptLayers, reused };
  if (imageKey === undefined || registrar === undefined) {
    if (statementKey === undefined) return push;
    return { ...push, statement: statementText(options, production, image, {}) };
  }
  const { productCode } = registrar;
  const { imageKeyId, organizationId, sealedImageKey } = imageKey;
  const statement = statementText(options, production, image, { productCode, organizationId, imageKeyId });
  const registration = {
    imageKeyId,
    sealedImageKey,
    imageDigests: digestsOf(image),
    repository: options.repository,
    version: options.tag ?? root,
    productCode,
    statement,
  };
  return { ...push, registration };
}

/** The envelope of the release's statement, with the vendor's signature when there is a key for it. */
function statementText(
  { statementKey }: PublicationOptions,
  { sourceDigest }: ImageProduction,
  image: RewrittenImage,
  registered: Pick<ReleaseStatement, 'productCode' | 'organizationId' | 'imageKeyId'>,
): string {
  const envelope = statementEnvelope({ ...describeRewritten(image), ...registered, sourceDigest });
  return Buffer.from(
    statementKey === undefined ? envelope : signStatement(envelope, statementKey),
  ).toString();
}

/** Gives the signed statement; undefined when nobody signs one. */
async function register(options: PublicationOptions, push: StagedPush): Promise<string | undefined> {
  if (push.registration === undefined) return push.statement;
  return options.registrar?.register(push.registration);
}

async function attach(
  { destination, signal }: PublicationOptions,
  root: Descriptor,
  envelope: string | undefined,
): Promise<Digest | undefined> {
  if (envelope === undefined) return undefined;
  return attachReleaseStatement(destination, root, Buffer.from(envelope), 'the image is pushed', { signal });
}

function digestsOf(image: RewrittenImage): Digest[] {
  return image.manifests.map(({ descriptor }) => descriptor.digest);
}

function resultOf(
  { root, attached, reused, registration }: StagedPush,
  imageDigests: readonly Digest[],
): Omit<PublicationResult, 'statement' | 'isResumed'> {
  return { root, imageDigests, attached, imageKeyId: registration?.imageKeyId, reused };
}

/** The layers that wait in the staging layout. */
async function layersOf(store: StagedStore, push: StagedPush): Promise<Descriptor[]> {
  const layers: Descriptor[] = [];
  for (const top of [push.root, ...push.attached]) {
    for await (const { document } of walkGraph(store, await store.readManifest(top))) {
      if (document.kind === 'manifest') layers.push(...document.manifest.layers);
    }
  }
  const elsewhere = [...push.keptLayers, ...push.reused.map(({ descriptor }) => descriptor)];
  const digests = new Set(elsewhere.map(({ digest }) => digest));
  return layers.filter(({ digest }) => !digests.has(digest));
}

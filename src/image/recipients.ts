/**
 * Who can open an encrypted image, changed afterwards. Adding, dropping and re-wrapping touch no layer byte, only manifests
 * and index; removal that means something gives every layer a new key.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { encodeBase64 } from '#src/crypto/base64.ts';
import { type Annotations, publicOptionsOf, schemesOf, wrapLayerKey } from '#src/keywrap/annotations.ts';
import {
  type ElementName,
  licensedElement,
  listElements,
  withLicensedElement,
  withMoreElements,
  withoutElements,
} from '#src/keywrap/element-list.ts';
import type { KeyUnwrapper, KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import type { StagedStore } from './encrypt-layer.ts';
import {
  type EncryptedBlob,
  distinctBlobs,
  encryptedBlobs,
  findEncryptedBlobs,
  openBlobKey,
  withDescriptors,
} from './encrypted-layers.ts';
import type { ImageGraph } from './image-graph.ts';
import { runLayers } from './layer-lanes.ts';
import { type ImageKeyMint, createMintedWrapper, wrapAll } from './minted-image-key.ts';
import type { ImageProduction, MadeImage } from './publication.ts';
import type { RegistrationTerms } from './registrar.ts';
import { rekeyBlob } from './rekey.ts';

export type RecipientChange =
  | {
      readonly kind: 'add';
      readonly unwrappers: readonly KeyUnwrapper[];
      readonly wrappers: readonly KeyWrapper[];
    }
  /** Layers keep their keys, so whoever had one keeps it. */
  | { readonly kind: 'drop'; readonly names: readonly ElementName[] }
  /** Layers get new keys, for these recipients and nobody else. */
  | {
      readonly kind: 'rekey';
      readonly unwrappers: readonly KeyUnwrapper[];
      readonly wrappers: readonly KeyWrapper[];
    }
  /** License holders get a new image key. */
  | { readonly kind: 'rewrap' };

export interface RecipientChangeOptions extends TransferOptions {
  readonly graph: ImageGraph;
  readonly change: RecipientChange;
  /** What names the change, for a rerun after a failed push. */
  readonly identity: unknown;
  /** Given when the new image is registered: a new digest needs a release, and a release an image key of its own. */
  readonly mint?: ImageKeyMint | undefined;
  /** Layers are about to be encrypted again. */
  readonly onLayers?: ((count: number, totalBytes: number) => void) | undefined;
  readonly onLayersDone?: (() => void) | undefined;
}

/** The image with other recipients, ready to be published. */
export function changeRecipients(options: RecipientChangeOptions): ImageProduction {
  const { graph } = options;
  return {
    source: graph.source,
    identity: { image: graph.root.descriptor.digest, change: options.identity },
    make: (destination, terms) => makeChanged(options, destination, terms),
  };
}

/** The key server's part: the image key of the new release, and the old layer keys under it. */
interface LicensedPart {
  readonly imageKeyId: string;
  readonly organizationId: string;
  readonly wrapper: KeyWrapper;
  rewrapped(blob: EncryptedBlob): Uint8Array | undefined;
}

async function makeChanged(
  options: RecipientChangeOptions,
  destination: StagedStore,
  terms: RegistrationTerms | undefined,
): Promise<MadeImage> {
  const { graph, change } = options;
  const blobs = distinctBlobs(encryptedBlobs(graph));
  const licensed = await licensedPart(options, blobs, terms);
  const imageKey =
    licensed === undefined
      ? undefined
      : { imageKeyId: licensed.imageKeyId, organizationId: licensed.organizationId };
  if (change.kind === 'rekey') {
    const image = withDescriptors(graph, await rekeyAll(options, change, blobs, licensed, destination));
    return { image, keptLayers: image.keptLayers, reused: [], imageKey };
  }
  const changed: { blob: EncryptedBlob; descriptor: Descriptor }[] = [];
  for (const blob of blobs) {
    const annotations = await changedAnnotations(blob, change, licensed);
    changed.push({ blob, descriptor: { ...blob.descriptor, annotations } });
  }
  const image = withDescriptors(graph, changed);
  const keptLayers = [...image.keptLayers, ...changed.map(({ descriptor }) => descriptor)];
  return { image, keptLayers, reused: [], imageKey };
}

async function licensedPart(
  { graph, change, mint }: RecipientChangeOptions,
  blobs: readonly EncryptedBlob[],
  terms: RegistrationTerms | undefined,
): Promise<LicensedPart | undefined> {
  if (terms === undefined || mint === undefined) return undefined;
  const { organizationId } = terms;
  // Keys that are opened here need no help; the others are re-wrapped without anybody seeing them.
  const isOpened = change.kind === 'add' || change.kind === 'rekey';
  const elements = isOpened
    ? []
    : blobs.flatMap((blob) => licensedElement(blob.descriptor.annotations, organizationId) ?? []);
  if (!isOpened && elements.length === 0) throw notLicensed();
  const imageKeyId = await mint.mint();
  // The root: it vouches for every manifest below it, also for those without an encrypted layer.
  const imageDigest = graph.root.descriptor.digest;
  const wrapped = await wrapAll(
    mint,
    imageKeyId,
    elements.map((element) => ({ kind: 'element', element, imageDigest }) as const),
  );
  const byElement = new Map(
    elements.map((element, position) => [encodeBase64(element), wrapped[position]?.element]),
  );
  return {
    imageKeyId,
    organizationId,
    wrapper: createMintedWrapper(mint, imageKeyId, terms),
    rewrapped: ({ descriptor }) => {
      const element = licensedElement(descriptor.annotations, organizationId);
      return element === undefined ? undefined : byElement.get(encodeBase64(element));
    },
  };
}

function notLicensed(): LatchkeyError {
  return new LatchkeyError(
    'INPUT_UNSUPPORTED',
    'no layer is encrypted for license holders of this key server, so there is nothing to re-wrap',
    { hint: 'add them with `latchkey recipients add --product CODE --key PRIVATE_KEY`' },
  );
}

async function changedAnnotations(
  blob: EncryptedBlob,
  change: Exclude<RecipientChange, { kind: 'rekey' }>,
  licensed: LicensedPart | undefined,
): Promise<Annotations> {
  const annotations = blob.descriptor.annotations ?? {};
  if (change.kind === 'add') return addedAnnotations(blob, change, licensed);
  const rewrapped = licensed?.rewrapped(blob);
  const renewed =
    licensed === undefined || rewrapped === undefined
      ? annotations
      : withLicensedElement(annotations, licensed.organizationId, rewrapped);
  if (change.kind === 'rewrap') return renewed;
  const left = withoutElements(annotations, change.names);
  if (schemesOf(left).length === 0) throw nobodyLeft(blob);
  if (licensed === undefined || rewrapped === undefined) return left;
  const isKept = licensedElement(left, licensed.organizationId) !== undefined;
  return isKept ? withLicensedElement(left, licensed.organizationId, rewrapped) : left;
}

async function addedAnnotations(
  blob: EncryptedBlob,
  { unwrappers, wrappers }: Extract<RecipientChange, { kind: 'add' }>,
  licensed: LicensedPart | undefined,
): Promise<Annotations> {
  const annotations = blob.descriptor.annotations ?? {};
  const privateOptions = await openBlobKey(blob, unwrappers);
  const added = await wrapLayerKey(privateOptions, publicOptionsOf(annotations), wrappers);
  const more = withMoreElements(annotations, added);
  if (licensed === undefined) return more;
  const element = await licensed.wrapper.wrap(privateOptions);
  return withLicensedElement(more, licensed.organizationId, element);
}

function nobodyLeft({ position, where }: EncryptedBlob): LatchkeyError {
  return new LatchkeyError('USAGE_INVALID', `nobody could open layer ${position} of ${where} any more`, {
    hint: 'add the new recipients first with `latchkey recipients add`',
  });
}

async function rekeyAll(
  options: RecipientChangeOptions,
  { unwrappers, wrappers }: Extract<RecipientChange, { kind: 'rekey' }>,
  blobs: readonly EncryptedBlob[],
  licensed: LicensedPart | undefined,
  destination: StagedStore,
): Promise<{ blob: EncryptedBlob; descriptor: Descriptor }[]> {
  const { source } = options.graph;
  const all = licensed === undefined ? wrappers : [licensed.wrapper, ...wrappers];
  const opened = await Promise.all(
    blobs.map(async (blob) => ({ blob, privateOptions: await openBlobKey(blob, unwrappers) })),
  );
  options.onLayers?.(
    opened.length,
    opened.reduce((sum, { blob }) => sum + blob.descriptor.size, 0),
  );
  const changed = new Map<EncryptedBlob, Descriptor>();
  const works = opened.map(({ blob, privateOptions }) => ({
    sizeBytes: blob.descriptor.size,
    run: async (signal: AbortSignal, thread: Parameters<typeof rekeyBlob>[0]['thread']) => {
      const request = { source, destination, blob, privateOptions, wrappers: all, thread };
      changed.set(blob, await rekeyBlob({ ...request, signal, onBytes: options.onBytes }));
    },
  }));
  await runLayers(works, 1, options.signal);
  options.onLayersDone?.();
  return [...changed].map(([blob, descriptor]) => ({ blob, descriptor }));
}

/** What stays of a layer's recipients, by the names of the list. */
export interface RemainingRecipients {
  /** Elements for license holders. */
  readonly licensed: readonly string[];
  readonly others: readonly string[];
}

/**
 * Looks at a removal before anything is done.
 * @throws LatchkeyError STATE_NOT_FOUND when no layer has a recipient of that name
 */
export function remainingRecipients(
  graph: ImageGraph,
  names: readonly { readonly text: string; readonly name: ElementName }[],
): RemainingRecipients {
  const licensed = new Set<string>();
  const others = new Set<string>();
  const found = new Set<string>();
  for (const { descriptor } of distinctBlobs(encryptedBlobs(graph))) {
    for (const listed of listElements(descriptor.annotations)) {
      const removal = names.find(({ text }) => listed.name === text || listed.name.startsWith(`${text}.`));
      if (removal === undefined) (listed.licensed === undefined ? others : licensed).add(listed.name);
      else found.add(removal.text);
    }
  }
  const missing = names.find(({ text }) => !found.has(text));
  if (missing === undefined) return { licensed: [...licensed], others: [...others] };
  throw new LatchkeyError('STATE_NOT_FOUND', `no layer has a recipient ${missing.text}`, {
    hint: 'see `latchkey recipients list`',
  });
}

/** Whether license holders are among the recipients: the new image then has to be registered. */
export function hasLicensedElements(graph: ImageGraph): boolean {
  return findEncryptedBlobs(graph).some(({ descriptor }) =>
    listElements(descriptor.annotations).some(({ licensed }) => licensed !== undefined),
  );
}

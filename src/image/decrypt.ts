/** Decrypts an image with a private key. The salt stays, so the diff IDs of the config still hold. */
import { rm } from 'node:fs/promises';
import { LatchkeyError } from '#src/base/errors.ts';
import { verifyLayerMac } from '#src/crypto/layer-cipher.ts';
import { type PrivateLayerOptions, parsePrivateOptions } from '#src/crypto/layer-options.ts';
import {
  type SchemeOutcome,
  openLayerKey,
  publicOptionsOf,
  withoutEncryption,
} from '#src/keywrap/annotations.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestFromHex } from '#src/oci/digest.ts';
import { type Compression, decryptedMediaType, isEncrypted } from '#src/oci/media-types.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import { wrongContent } from '#src/store/verified-stream.ts';
import { type DiffIdEvidence, diffIdEvidence, verifyDiffId } from './diff-id-check.ts';
import type { StagedStore } from './encrypt-layer.ts';
import type { HashThread } from './hash-thread.ts';
import type { ImageGraph } from './image-graph.ts';
import { type LayerWork, runLayers } from './layer-lanes.ts';
import { passLayer } from './layer-pass.ts';
import { type ReplacementLayer, type RewrittenImage, rewriteImage } from './rewrite.ts';

/** All of the work on one layer is spread over two threads; a second layer would only take memory. */
const LARGE_LAYERS_AT_A_TIME = 1;

export interface DecryptionOptions extends TransferOptions {
  readonly source: BlobSource;
  readonly graph: ImageGraph;
  /** Where plaintext layers go; layers that were plain are not copied. */
  readonly destination: StagedStore;
  readonly unwrappers: readonly KeyUnwrapper[];
  /** The layers begin. */
  readonly onLayers?: ((count: number, totalBytes: number) => void) | undefined;
  readonly onLayersDone?: (() => void) | undefined;
}

interface OpenedLayer {
  readonly descriptor: Descriptor;
  readonly privateOptions: PrivateLayerOptions;
  readonly evidence: DiffIdEvidence;
  /** What the configs say of it, at every place where it is. */
  readonly diffIds: Set<Digest>;
}

/** The blob of a decrypted layer. */
type PlainBlob = Pick<Descriptor, 'mediaType' | 'digest' | 'size'>;

/**
 * Decrypts all encrypted layers. All keys are tried before the first byte is written. What comes out is authentic, and
 * at each place the layer that the image config has there; that config and the plain layers are the right ones is for a
 * signed statement to say.
 * @throws LatchkeyError INPUT_UNSUPPORTED when nothing is encrypted, KEY_NOT_FOUND, CRYPTO_AUTHENTICATION_FAILED,
 *   INPUT_DIGEST_MISMATCH for a layer in a wrong place, INPUT_*, STORAGE_*, INTERRUPTED, and what the source raises
 */
export async function decryptImage(options: DecryptionOptions): Promise<RewrittenImage> {
  const opened = await openLayers(options.graph, options.unwrappers);
  const { destination } = options;
  const decrypted = new Map<Digest, PlainBlob>();
  const made: Digest[] = [];
  options.onLayers?.(
    opened.length,
    opened.reduce((sum, { descriptor }) => sum + descriptor.size, 0),
  );
  const works = opened.map((layer): LayerWork => ({
    sizeBytes: layer.descriptor.size,
    run: async (signal, thread) => {
      const { blob, isNew } = await decryptLayer(layer, { ...options, signal }, thread);
      decrypted.set(layer.descriptor.digest, blob);
      if (isNew) made.push(blob.digest);
    },
  }));
  try {
    await runLayers(works, LARGE_LAYERS_AT_A_TIME, options.signal);
  } catch (error) {
    // Plaintext that belongs to no image; nobody would look for it.
    const paths = made.flatMap((digest) => destination.localPath?.(digest) ?? []);
    await Promise.all(paths.map((path) => rm(path, { force: true })));
    throw error;
  }
  options.onLayersDone?.();
  const plainOf = (layer: Descriptor | undefined): Descriptor | undefined => {
    if (layer === undefined || !isEncrypted(layer.mediaType)) return undefined;
    const blob = decrypted.get(layer.digest);
    return blob && plainDescriptor(layer, blob);
  };
  return rewriteImage(
    options.graph,
    (image, position): ReplacementLayer | undefined => {
      const diffId = image.diffIds[position];
      const descriptor = plainOf(image.manifest.layers[position]);
      return descriptor === undefined ? undefined : { descriptor, diffId };
    },
    { replaceDocument: ({ manifest }, position) => plainOf(manifest.layers[position]) },
  );
}

async function openLayers(graph: ImageGraph, unwrappers: readonly KeyUnwrapper[]): Promise<OpenedLayer[]> {
  const opened = new Map<Digest, OpenedLayer>();
  for (const node of graph.nodes) {
    if (node.kind === 'index' || node.kind === 'opaque') continue;
    for (const [position, descriptor] of node.manifest.layers.entries()) {
      if (!isEncrypted(descriptor.mediaType)) continue;
      const layer = opened.get(descriptor.digest) ?? (await openLayer(descriptor, position, unwrappers));
      requireSameType(layer.descriptor, descriptor);
      opened.set(descriptor.digest, layer);
      const diffId = node.kind === 'image' ? node.diffIds[position] : undefined;
      if (diffId !== undefined) layer.diffIds.add(diffId);
      if (layer.evidence.kind === 'sealed') verifyDiffId(layer.evidence.diffId, layer.diffIds);
    }
  }
  if (opened.size > 0) return [...opened.values()];
  throw new LatchkeyError('INPUT_UNSUPPORTED', 'the image has no encrypted layer', {
    hint: 'it is plain already; `latchkey inspect` shows what an image consists of',
  });
}

async function openLayer(
  descriptor: Descriptor,
  position: number,
  unwrappers: readonly KeyUnwrapper[],
): Promise<OpenedLayer> {
  const outcome = await openLayerKey(descriptor.annotations, unwrappers);
  if (!(outcome instanceof Uint8Array)) throw notOpened(position, outcome);
  const privateOptions = parsePrivateOptions(outcome);
  const evidence = diffIdEvidence(descriptor.mediaType, privateOptions);
  return { descriptor, privateOptions, evidence, diffIds: new Set() };
}

/** One blob is one kind of layer; under another name it would be another layer. */
function requireSameType(known: Descriptor, other: Descriptor): void {
  if (decryptedMediaType(known.mediaType) === decryptedMediaType(other.mediaType)) return;
  throw new LatchkeyError(
    'INPUT_MALFORMED',
    `the layer ${known.digest} is ${known.mediaType} at one place and ${other.mediaType} at another`,
  );
}

/** Neither inline bytes nor URLs of the ciphertext are the plain layer's. */
function plainDescriptor(encrypted: Descriptor, blob: PlainBlob): Descriptor {
  const annotations = withoutEncryption(encrypted.annotations);
  return { ...encrypted, ...blob, annotations, urls: undefined, data: undefined };
}

const NO_KEY_GIVEN: Readonly<Record<string, string>> = {
  pkcs7: 'no certificate was given for it, beside its private key',
};

/** Says what came of every way to open the layer; an error among them decides the code. */
export function notOpened(position: number, outcomes: readonly SchemeOutcome[]): LatchkeyError {
  const reasons = outcomes.map(({ scheme, outcome }) => {
    if (outcome === 'no key given') return `${scheme} (${NO_KEY_GIVEN[scheme] ?? 'no key was given for it'})`;
    if (outcome === 'not for these keys') return `${scheme} (not for this key)`;
    return `${scheme} (${outcome.message})`;
  });
  const found =
    reasons.length === 0 ? 'it has no wrapped key at all' : `it is wrapped by ${reasons.join(', ')}`;
  const error = outcomes.map(({ outcome }) => outcome).find((outcome) => outcome instanceof LatchkeyError);
  return new LatchkeyError(error?.code ?? 'KEY_NOT_FOUND', `no key opens layer ${position}: ${found}`, {
    hint:
      error?.hint ?? 'use the private key of one of the recipients given to `latchkey encrypt --recipient`',
    cause: error,
  });
}

async function decryptLayer(
  layer: OpenedLayer,
  options: DecryptionOptions,
  thread: () => HashThread,
): Promise<{ readonly blob: PlainBlob; readonly isNew: boolean }> {
  const { descriptor, privateOptions, evidence } = layer;
  const { mac } = publicOptionsOf(descriptor.annotations);
  const mediaType = decryptedMediaType(descriptor.mediaType);
  const path = await options.destination.staging.newFile();
  const result = await passLayer({
    direction: 'decrypt',
    source: options.source,
    descriptor,
    key: privateOptions,
    contentCompression: 'none',
    tailBytes: 0,
    diffIdCompression: unpackedCompression(evidence),
    path,
    thread,
    signal: options.signal,
    onBytes: options.onBytes,
  });
  try {
    if (digestFromHex(result.ciphertextSha256) !== descriptor.digest) {
      throw wrongContent(descriptor, options.source.location);
    }
    verifyLayerMac(result.mac, mac);
    const digest = digestFromHex(result.content.whole);
    if (evidence.kind === 'computed') {
      const { diffIdSha256 } = result;
      verifyDiffId(diffIdSha256 === undefined ? digest : digestFromHex(diffIdSha256), layer.diffIds);
    }
    const plain: PlainBlob = { mediaType, digest, size: result.sizeBytes };
    const isNew = !(await options.destination.hasBlob(plain));
    await options.destination.staging.adopt(plain, path);
    return { blob: plain, isNew };
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

/** What must be unpacked to know the diff ID; of a tar it is the digest. */
function unpackedCompression(evidence: DiffIdEvidence): Compression | undefined {
  return evidence.kind === 'computed' && evidence.compression !== 'none' ? evidence.compression : undefined;
}

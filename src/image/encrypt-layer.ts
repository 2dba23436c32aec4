/** Encrypts one layer into a store on this machine: verify, salt, encrypt, wrap its key. */
import { rm } from 'node:fs/promises';
import { LatchkeyError } from '#src/base/errors.ts';
import { generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import { withoutEncryption, wrapLayerKey } from '#src/keywrap/annotations.ts';
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestFromHex } from '#src/oci/digest.ts';
import { encryptedMediaType } from '#src/oci/media-types.ts';
import type { BlobSource, BlobStaging, BlobStore, TransferOptions } from '#src/store/blob-store.ts';
import { wrongContent } from '#src/store/verified-stream.ts';
import type { ContentDigests } from './content-hasher.ts';
import type { HashThread } from './hash-thread.ts';
import { passLayer } from './layer-pass.ts';
import type { EncryptedLayerPlan } from './layer-plan.ts';
import { createSalt } from './salt.ts';

/** A store on this machine's disk, into which layers are written as they are made. */
export type StagedStore = BlobStore & { readonly staging: BlobStaging };

export interface LayerEncryption extends TransferOptions {
  readonly source: BlobSource;
  readonly destination: StagedStore;
  readonly wrappers: readonly KeyWrapper[];
  /** False keeps the diff ID, and with it the chance that a plain twin of the layer unlocks it. */
  readonly isSalted: boolean;
  readonly thread: () => HashThread;
}

export interface EncryptedLayer {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
}

/**
 * Encrypts a layer and stores it.
 * @throws LatchkeyError INPUT_DIGEST_MISMATCH when layer, digest and diff ID do not belong together, INPUT_MALFORMED,
 *   INPUT_TRUNCATED, STORAGE_*, INTERRUPTED, and what the source raises
 */
export async function encryptLayer(
  layer: EncryptedLayerPlan,
  options: LayerEncryption,
): Promise<EncryptedLayer> {
  const { compression, descriptor } = layer;
  const key = generateLayerKey();
  const salt = options.isSalted ? createSalt(compression) : undefined;
  const path = await options.destination.staging.newFile();
  const result = await passLayer({
    direction: 'encrypt',
    source: options.source,
    descriptor,
    key,
    appended: salt?.stored,
    // Without salt the diff ID stays, so nothing is unpacked: the layer's own digest vouches for it.
    contentCompression: options.isSalted ? compression : 'none',
    tailBytes: salt?.uncompressed.length ?? 0,
    path,
    thread: options.thread,
    signal: options.signal,
    onBytes: options.onBytes,
  });
  try {
    const diffId = verifyLayer(layer, result.content, salt?.uncompressed, options.source.location);
    const annotations = await wrapLayerKey(
      formatPrivateOptions({ ...key, plainDigest: diffId, sourceDiffId: layer.diffId }),
      { mac: result.mac },
      options.wrappers,
    );
    const encrypted: Descriptor = {
      ...withoutLocation(descriptor),
      mediaType: encryptedMediaType(descriptor.mediaType),
      digest: digestFromHex(result.ciphertextSha256),
      size: result.sizeBytes,
      annotations: { ...keptAnnotations(descriptor.annotations, salt !== undefined), ...annotations },
    };
    await options.destination.staging.adopt(encrypted, path);
    return { descriptor: encrypted, diffId };
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    key.symmetricKey.fill(0);
  }
}

/**
 * Tables of contents, by which lazy pullers (zstd:chunked, eStargz) fetch single files: of a salted layer they are no
 * longer true, and their digests would confirm a guess of its content.
 */
const CONTENTS_ANNOTATION =
  /^(?:io\.github\.containers\.zstd-chunked|containerd\.io\/snapshot\/stargz|io\.containers\.estargz)[./]/;

function keptAnnotations(annotations: Descriptor['annotations'], isSalted: boolean): Record<string, string> {
  const kept = Object.entries(withoutEncryption(annotations) ?? {});
  return Object.fromEntries(kept.filter(([name]) => !isSalted || !CONTENTS_ANNOTATION.test(name)));
}

const NO_SALT = new Uint8Array(0);

/**
 * Checks that the layer is the one that manifest and config mean; gives the diff ID of the result. Of a salted,
 * compressed layer the digest in the manifest is not computed: config and diff ID prove what it unpacks to, and its
 * size and one whole stream are checked as well. What may differ unseen is how the compression says it, such as a
 * time stamp in a gzip header.
 */
function verifyLayer(
  layer: EncryptedLayerPlan,
  { beforeTail, tail, whole }: ContentDigests,
  salt: Uint8Array | undefined,
  location: string,
): Digest {
  const content = digestFromHex(beforeTail);
  const isStored = salt === undefined || layer.compression === 'none';
  if (isStored && content !== layer.descriptor.digest) throw wrongContent(layer.descriptor, location);
  const isUnpacked = salt !== undefined || layer.compression === 'none';
  if (!isUnpacked) return layer.diffId;
  if (content !== layer.diffId || Buffer.compare(tail, salt ?? NO_SALT) !== 0) {
    throw new LatchkeyError(
      'INPUT_DIGEST_MISMATCH',
      `layer ${layer.position} unpacks to ${content}, but the image config says ${layer.diffId}`,
      { hint: 'the image is damaged and would not run; build or pull it again' },
    );
  }
  return digestFromHex(whole);
}

/** The ciphertext is neither inline nor at the plain layer's URLs. */
function withoutLocation(descriptor: Descriptor): Descriptor {
  return { ...descriptor, urls: undefined, data: undefined };
}

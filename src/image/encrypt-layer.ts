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
import type { LayerPlan } from './plan.ts';
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
export async function encryptLayer(layer: LayerPlan, options: LayerEncryption): Promise<EncryptedLayer> {
  const { compression, descriptor } = layer;
  if (compression === 'zstd') throw new TypeError('the plan let a zstd layer through');
  const key = generateLayerKey();
  const salt = options.isSalted ? createSalt(compression) : undefined;
  const path = await options.destination.staging.newFile();
  const result = await passLayer({
    direction: 'encrypt',
    source: options.source,
    descriptor,
    key,
    appended: salt?.stored,
    isGzipContent: compression === 'gzip',
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
      annotations: { ...withoutEncryption(descriptor.annotations), ...annotations },
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
 * Checks that the content is what the image config says; gives the diff ID of the salted layer. Of a gzip layer the
 * digest in the manifest is not computed: manifest, config and diff ID prove what it unpacks to, and its size and one
 * whole gzip are checked as well. What may differ unseen is how the gzip says it, such as a time stamp in its header.
 */
function verifyLayer(
  layer: LayerPlan,
  { beforeTail, tail, whole }: ContentDigests,
  salt: Uint8Array | undefined,
  location: string,
): Digest {
  const content = digestFromHex(beforeTail);
  if (layer.compression === 'none' && content !== layer.descriptor.digest) {
    throw wrongContent(layer.descriptor, location);
  }
  const isSaltSeen = salt === undefined || Buffer.compare(tail, salt) === 0;
  if (content !== layer.diffId || !isSaltSeen) {
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

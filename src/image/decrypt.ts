/** Decrypts an image with a private key. The salt stays, so the diff IDs of the config still hold. */
import { rm } from 'node:fs/promises';
import { LatchkeyError } from '#src/base/errors.ts';
import { verifyLayerMac } from '#src/crypto/layer-cipher.ts';
import { type PrivateLayerOptions, parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { publicOptionsOf, schemesOf, unwrapLayerKey, withoutEncryption } from '#src/keywrap/annotations.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestFromHex } from '#src/oci/digest.ts';
import { decryptedMediaType, isEncrypted } from '#src/oci/media-types.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import { wrongContent } from '#src/store/verified-stream.ts';
import type { StagedStore } from './encrypt-layer.ts';
import { HashThread } from './hash-thread.ts';
import { type ImageGraph, platformImages } from './image-graph.ts';
import { passLayer } from './layer-pass.ts';
import { type ReplacementLayer, type RewrittenImage, rewriteImage } from './rewrite.ts';

export interface DecryptionOptions extends TransferOptions {
  readonly source: BlobSource;
  readonly graph: ImageGraph;
  /** Where plaintext layers go; layers that were plain are not copied. */
  readonly destination: StagedStore;
  readonly unwrappers: readonly KeyUnwrapper[];
  readonly onLayer?: ((layer: Descriptor, number: number, total: number) => void) | undefined;
  readonly onLayerDone?: (() => void) | undefined;
}

interface OpenedLayer {
  readonly descriptor: Descriptor;
  readonly privateOptions: PrivateLayerOptions;
}

/**
 * Decrypts all encrypted layers. All keys are tried before the first byte is written.
 * @throws LatchkeyError INPUT_UNSUPPORTED when nothing is encrypted, KEY_NOT_FOUND, CRYPTO_AUTHENTICATION_FAILED,
 *   INPUT_*, STORAGE_*, INTERRUPTED, and what the source raises
 */
export async function decryptImage(options: DecryptionOptions): Promise<RewrittenImage> {
  const opened = await openLayers(options.graph, options.unwrappers);
  const decrypted = new Map<Digest, Descriptor>();
  let thread: HashThread | undefined;
  try {
    for (const [index, layer] of opened.entries()) {
      options.onLayer?.(layer.descriptor, index + 1, opened.length);
      const plain = await decryptLayer(layer, options, () => (thread ??= new HashThread()));
      decrypted.set(layer.descriptor.digest, plain);
      options.onLayerDone?.();
    }
  } finally {
    await thread?.close();
  }
  return rewriteImage(options.graph, (image, position): ReplacementLayer | undefined => {
    const diffId = image.diffIds[position];
    const layer = image.manifest.layers[position];
    const descriptor = layer === undefined ? undefined : decrypted.get(layer.digest);
    return descriptor === undefined || diffId === undefined ? undefined : { descriptor, diffId };
  });
}

async function openLayers(graph: ImageGraph, unwrappers: readonly KeyUnwrapper[]): Promise<OpenedLayer[]> {
  const opened = new Map<Digest, OpenedLayer>();
  for (const image of platformImages(graph)) {
    for (const [position, descriptor] of image.manifest.layers.entries()) {
      if (!isEncrypted(descriptor.mediaType) || opened.has(descriptor.digest)) continue;
      const bytes = await unwrapLayerKey(descriptor.annotations, unwrappers);
      if (bytes === null) throw notForUs(descriptor, position);
      opened.set(descriptor.digest, { descriptor, privateOptions: parsePrivateOptions(bytes) });
    }
  }
  if (opened.size > 0) return [...opened.values()];
  throw new LatchkeyError('INPUT_UNSUPPORTED', 'the image has no encrypted layer', {
    hint: 'it is plain already; `latchkey inspect` shows what an image consists of',
  });
}

function notForUs(descriptor: Descriptor, position: number): LatchkeyError {
  const schemes = schemesOf(descriptor.annotations);
  const found =
    schemes.length === 0 ? 'it has no wrapped key at all' : `it is wrapped by ${schemes.join(', ')}`;
  return new LatchkeyError('KEY_NOT_FOUND', `the key does not open layer ${position}: ${found}`, {
    hint: 'use the private key of one of the recipients given to `latchkey encrypt --recipient`',
  });
}

async function decryptLayer(
  layer: OpenedLayer,
  options: DecryptionOptions,
  thread: () => HashThread,
): Promise<Descriptor> {
  const { descriptor, privateOptions } = layer;
  const { mac } = publicOptionsOf(descriptor.annotations);
  const mediaType = decryptedMediaType(descriptor.mediaType);
  const path = await options.destination.staging.newFile();
  const result = await passLayer({
    direction: 'decrypt',
    source: options.source,
    descriptor,
    key: privateOptions,
    isGzipContent: false,
    tailBytes: 0,
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
    const plain: Descriptor = {
      ...descriptor,
      mediaType,
      digest: digestFromHex(result.content.whole),
      size: result.sizeBytes,
      annotations: withoutEncryption(descriptor.annotations),
    };
    await options.destination.staging.adopt(plain, path);
    return plain;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

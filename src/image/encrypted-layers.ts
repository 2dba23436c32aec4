/** The encrypted blobs of an image, wherever they are in it, and the image with other descriptors for them. */
import { LatchkeyError } from '#src/base/errors.ts';
import { openLayerKey } from '#src/keywrap/annotations.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { isEncrypted } from '#src/oci/media-types.ts';
import { notOpened } from './decrypt.ts';
import { type ArtifactNode, type ImageGraph, type PlatformImage, platformName } from './image-graph.ts';
import { type RewrittenImage, rewriteImage } from './rewrite.ts';

/** A layer of an image, or an encrypted document of an artifact. */
export interface EncryptedBlob {
  readonly position: number;
  readonly descriptor: Descriptor;
  /** `linux/amd64`, or the digest of an artifact. */
  readonly where: string;
  /** Of the unpacked layer; undefined for what is no layer. */
  readonly diffId: Digest | undefined;
}

/**
 * All encrypted blobs of an image that has to have some.
 * @throws LatchkeyError INPUT_UNSUPPORTED when there is none
 */
export function encryptedBlobs(graph: ImageGraph): EncryptedBlob[] {
  const blobs = findEncryptedBlobs(graph);
  if (blobs.length > 0) return blobs;
  throw new LatchkeyError('INPUT_UNSUPPORTED', `${graph.source.location}: the image has no encrypted layer`, {
    hint: 'it is plain; `latchkey encrypt` encrypts it',
  });
}

/** All encrypted blobs, in the order of the manifests. */
export function findEncryptedBlobs(graph: ImageGraph): EncryptedBlob[] {
  return graph.nodes.flatMap((node): EncryptedBlob[] => {
    if (node.kind === 'index' || node.kind === 'opaque') return [];
    const where = node.kind === 'image' ? platformName(node) : node.blob.descriptor.digest;
    return node.manifest.layers.flatMap((descriptor, position) => {
      if (!isEncrypted(descriptor.mediaType)) return [];
      const diffId = node.kind === 'image' ? node.diffIds[position] : undefined;
      return [{ position, descriptor, where, diffId }];
    });
  });
}

/** Blobs that manifests share are changed once, so they stay shared. */
export function distinctBlobs(blobs: readonly EncryptedBlob[]): EncryptedBlob[] {
  return [...new Map(blobs.map((blob) => [descriptorIdentity(blob.descriptor), blob])).values()];
}

function descriptorIdentity(descriptor: Descriptor): string {
  return JSON.stringify([descriptor.digest, descriptor.mediaType, descriptor.annotations]);
}

/** The image with other descriptors for its encrypted blobs; nothing else changes. */
export function withDescriptors(
  graph: ImageGraph,
  changed: readonly { readonly blob: EncryptedBlob; readonly descriptor: Descriptor }[],
): RewrittenImage {
  const byIdentity = new Map(
    changed.map(({ blob, descriptor }) => [descriptorIdentity(blob.descriptor), descriptor]),
  );
  const replacementFor = (node: PlatformImage | ArtifactNode, position: number): Descriptor | undefined => {
    const layer = node.manifest.layers[position];
    return layer === undefined ? undefined : byIdentity.get(descriptorIdentity(layer));
  };
  return rewriteImage(
    graph,
    (image, position) => {
      const descriptor = replacementFor(image, position);
      return descriptor === undefined ? undefined : { descriptor, diffId: image.diffIds[position] };
    },
    { replaceDocument: replacementFor },
  );
}

/**
 * Opens the key of a blob.
 * @returns its private options, byte for byte
 * @throws LatchkeyError KEY_NOT_FOUND, or what opening raised
 */
export async function openBlobKey(
  { descriptor, position }: EncryptedBlob,
  unwrappers: readonly KeyUnwrapper[],
): Promise<Uint8Array> {
  const outcome = await openLayerKey(descriptor.annotations, unwrappers);
  if (outcome instanceof Uint8Array) return outcome;
  throw notOpened(position, outcome);
}

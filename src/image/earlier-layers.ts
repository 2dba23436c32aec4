/**
 * Encrypted layers of an earlier release, by what they were before encryption. Only their keys tell that: they are opened
 * with a recipient's private key, or by the key server.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { encodeBase64 } from '#src/crypto/base64.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { type Annotations, publicOptionsOf, unwrapLayerKey } from '#src/keywrap/annotations.ts';
import { licensedElement } from '#src/keywrap/element-list.ts';
import { type KeyUnwrapper, PUBLIC_OPTIONS_ANNOTATION } from '#src/keywrap/key-wrapper.ts';
import { LATCHKEY_ANNOTATION, parseElement } from '#src/keywrap/latchkey-element.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { isEncrypted } from '#src/oci/media-types.ts';
import { type ImageGraph, platformImages } from './image-graph.ts';
import { type ImageKeyMint, wrapAll } from './minted-image-key.ts';

export interface EarlierLayer {
  /** As the earlier manifest describes it. */
  readonly descriptor: Descriptor;
  /** As the earlier config counts it: with salt. */
  readonly diffId: Digest;
  /** Before it was salted. */
  readonly sourceDiffId: Digest;
  /** Its key: opened, or wrapped for the new release already. */
  readonly key:
    | { readonly kind: 'opened'; readonly privateOptions: Uint8Array }
    | { readonly kind: 'wrapped'; readonly annotations: Annotations };
}

interface Candidate {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly imageDigest: Digest;
}

/**
 * Finds layers with private keys. A layer that the keys do not open is left out.
 * @throws LatchkeyError INPUT_UNSUPPORTED when nothing is encrypted, KEY_NOT_FOUND when the keys open no layer,
 *   INPUT_MALFORMED, CRYPTO_AUTHENTICATION_FAILED
 */
export async function openEarlierLayers(
  graph: ImageGraph,
  name: string,
  unwrappers: readonly KeyUnwrapper[],
): Promise<EarlierLayer[]> {
  const candidates = candidatesOf(graph, name);
  const opened: EarlierLayer[] = [];
  let isForUs = false;
  for (const { descriptor, diffId } of candidates) {
    const privateOptions = await unwrapLayerKey(descriptor.annotations, unwrappers);
    if (privateOptions === null) continue;
    isForUs = true;
    const { plainDigest, sourceDiffId } = parsePrivateOptions(privateOptions);
    // Other tools do not keep the diff ID, and theirs is another digest.
    if (sourceDiffId === undefined || plainDigest !== diffId) continue;
    opened.push({ descriptor, diffId, sourceDiffId, key: { kind: 'opened', privateOptions } });
  }
  if (isForUs) return opened;
  throw new LatchkeyError('KEY_NOT_FOUND', `--reuse-key opens no layer of ${name}`, {
    hint: 'use the private key of one of the recipients of that image',
  });
}

/**
 * Has the key server wrap the layer keys under a new image key.
 * @throws LatchkeyError INPUT_UNSUPPORTED when no layer is encrypted for this key server, STATE_NOT_FOUND when the image
 *   is not a registered one of the product
 */
export async function rewrapEarlierLayers(
  graph: ImageGraph,
  name: string,
  organizationId: string,
  mint: ImageKeyMint,
  imageKeyId: string,
): Promise<EarlierLayer[]> {
  const candidates = candidatesOf(graph, name).flatMap((candidate) => {
    const element = licensedElement(candidate.descriptor.annotations, organizationId);
    return element === undefined ? [] : [{ ...candidate, element }];
  });
  if (candidates.length === 0) {
    throw new LatchkeyError(
      'INPUT_UNSUPPORTED',
      `no layer of ${name} is encrypted for license holders of this key server`,
      { hint: 'leave out --reuse-from to encrypt all layers anew, or open the layers with --reuse-key' },
    );
  }
  const sources = candidates.map(
    ({ element, imageDigest }) => ({ kind: 'element', element, imageDigest }) as const,
  );
  const wrapped = await wrapAll(mint, imageKeyId, sources);
  return candidates.flatMap(({ descriptor, diffId }, position): EarlierLayer[] => {
    const { element, sourceDiffId } = wrapped[position] ?? {};
    if (element === undefined || sourceDiffId === undefined) return [];
    if (parseElement(element).header.plainDigest !== diffId) return [];
    const annotations = {
      [LATCHKEY_ANNOTATION]: encodeBase64(element),
      ...publicOptionsAnnotation(descriptor),
    };
    return [{ descriptor, diffId, sourceDiffId, key: { kind: 'wrapped', annotations } }];
  });
}

/** The annotation with the public options, as it is. */
function publicOptionsAnnotation({ annotations }: Descriptor): Annotations {
  const value = annotations?.[PUBLIC_OPTIONS_ANNOTATION];
  return value === undefined ? {} : { [PUBLIC_OPTIONS_ANNOTATION]: value };
}

function candidatesOf(graph: ImageGraph, name: string): Candidate[] {
  const found = new Map<Digest, Candidate>();
  for (const image of platformImages(graph)) {
    for (const [position, descriptor] of image.manifest.layers.entries()) {
      const diffId = image.diffIds[position];
      if (!isEncrypted(descriptor.mediaType) || diffId === undefined || found.has(descriptor.digest))
        continue;
      // A layer that nobody could decrypt is not worth keeping.
      publicOptionsOf(descriptor.annotations);
      found.set(descriptor.digest, { descriptor, diffId, imageDigest: image.blob.descriptor.digest });
    }
  }
  if (found.size > 0) return [...found.values()];
  throw new LatchkeyError('INPUT_UNSUPPORTED', `${name} has no encrypted layer to reuse`, {
    hint: 'name an image that `latchkey encrypt` made, or leave out --reuse-from',
  });
}

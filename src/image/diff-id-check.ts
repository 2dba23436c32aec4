/**
 * Whether a decrypted layer is the one that its place in the image config asks for. ocicrypt binds a layer to nothing:
 * whoever may write to a registry can put a layer, with its keys, where another one was. The diff ID of the config is
 * what runtimes check at unpacking; here it is checked before the layer is given out.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import type { PrivateLayerOptions } from '#src/crypto/layer-options.ts';
import type { Digest } from '#src/oci/digest.ts';
import { type Compression, parseLayerMediaType } from '#src/oci/media-types.ts';

/** How the diff ID of a layer becomes known. */
export type DiffIdEvidence =
  /** The layer's maker has written it beside the layer key, under the same seal. */
  | { readonly kind: 'sealed'; readonly diffId: Digest }
  /** It is computed from the layer. */
  | { readonly kind: 'computed'; readonly compression: Compression };

/**
 * Chooses the cheapest evidence. Latchkey seals the diff ID with the key, so its layers need not be unpacked; who could
 * forge that has made the layer himself, and could as well have written a config to fit. Other writers put another
 * digest into its place. A tar is hashed anyway, and so is a blob of another type, which counts as it is.
 */
export function diffIdEvidence(mediaType: string, options: PrivateLayerOptions): DiffIdEvidence {
  const layer = parseLayerMediaType(mediaType);
  const { plainDigest, sourceDiffId } = options;
  const isSealed = plainDigest !== undefined && sourceDiffId !== undefined;
  if (isSealed && layer?.compression !== 'none') return { kind: 'sealed', diffId: plainDigest };
  return { kind: 'computed', compression: layer?.compression ?? 'none' };
}

/**
 * Compares what a layer is with what every place that holds it asks for.
 * @param expected the diff IDs of the configs at those places
 * @throws LatchkeyError INPUT_DIGEST_MISMATCH
 */
export function verifyDiffId(actual: Digest, expected: Iterable<Digest>): void {
  for (const diffId of expected) {
    if (diffId === actual) continue;
    throw new LatchkeyError(
      'INPUT_DIGEST_MISMATCH',
      `a layer unpacks to ${actual}, but the image config says ${diffId} at its place`,
      {
        hint: 'its layers were swapped, or its config was replaced; get the image again from who made it',
      },
    );
  }
}

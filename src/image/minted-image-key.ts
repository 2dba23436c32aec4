/**
 * The seam to image keys that stay in the key server. Layer keys of earlier releases come back wrapped under a new image
 * key, so a release pipeline can take layers over without ever being able to open them.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_ELEMENTS_PER_REQUEST } from '#src/base/limits.ts';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import { LATCHKEY_ANNOTATION } from '#src/keywrap/latchkey-element.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { RegistrationTerms } from './registrar.ts';

/** A layer key on its way to the key server. */
export type LayerKeySource =
  | { readonly kind: 'sealed'; readonly sealedOptions: string }
  /** Of a layer of a registered image, with the digest of the manifest that it stands in. */
  | { readonly kind: 'element'; readonly element: Uint8Array; readonly imageDigest: Digest };

export interface WrappedLayerKey {
  readonly element: Uint8Array;
  /** Of a layer taken over: its diff ID before it was salted, where that is known. */
  readonly sourceDiffId: Digest | undefined;
}

export interface ImageKeyMint {
  /** Makes an image key in the key server, which opens nothing until a release is registered with it; gives its id. */
  mint(): Promise<string>;
  /**
   * Wraps at most {@link MAX_ELEMENTS_PER_REQUEST} layer keys under such an image key; answers come in the same order.
   * @throws LatchkeyError STATE_NOT_FOUND when one is not of a registered image of the product
   */
  wrap(imageKeyId: string, sources: readonly LayerKeySource[]): Promise<readonly WrappedLayerKey[]>;
}

/** Wraps new layer keys under an image key of the key server. */
export function createMintedWrapper(
  mint: ImageKeyMint,
  imageKeyId: string,
  { importPublicKeyJwk }: Pick<RegistrationTerms, 'importPublicKeyJwk'>,
): KeyWrapper {
  return {
    annotation: LATCHKEY_ANNOTATION,
    wrap: async (privateOptions) => {
      const sealedOptions = await sealEnvelope(
        privateOptions,
        importPublicKeyJwk,
        'latchkey-layer-options-import',
        imageKeyId,
      );
      const [wrapped] = await wrapAll(mint, imageKeyId, [{ kind: 'sealed', sealedOptions }]);
      if (wrapped === undefined) throw wrongCount();
      return wrapped.element;
    },
  };
}

/**
 * Wraps any number of layer keys.
 * @throws LatchkeyError as {@link ImageKeyMint.wrap}
 */
export async function wrapAll(
  mint: ImageKeyMint,
  imageKeyId: string,
  sources: readonly LayerKeySource[],
): Promise<WrappedLayerKey[]> {
  const wrapped: WrappedLayerKey[] = [];
  for (let start = 0; start < sources.length; start += MAX_ELEMENTS_PER_REQUEST) {
    const part = sources.slice(start, start + MAX_ELEMENTS_PER_REQUEST);
    const answer = await mint.wrap(imageKeyId, part);
    if (answer.length !== part.length) throw wrongCount();
    wrapped.push(...answer);
  }
  return wrapped;
}

function wrongCount(): LatchkeyError {
  return new LatchkeyError(
    'INPUT_MALFORMED',
    'the key server gave another number of keys than it was asked for',
  );
}

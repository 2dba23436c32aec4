/** The latchkey scheme: every layer of an image wrapped by the image's one key, so that a start needs one lease. */
import { LatchkeyError } from '#src/base/errors.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import type { KeyUnwrapper, KeyWrapper } from './key-wrapper.ts';
import {
  LATCHKEY_ANNOTATION,
  type LatchkeyElementHeader,
  openElement,
  parseElement,
  sealElement,
} from './latchkey-element.ts';

/** Whose image key it is; written in clear into every element. */
export type ImageKeyOwner = Omit<LatchkeyElementHeader, 'plainDigest'>;

/** Wraps under an image key. */
export function createLatchkeyWrapper(owner: ImageKeyOwner, imageKey: Uint8Array): KeyWrapper {
  return {
    annotation: LATCHKEY_ANNOTATION,
    wrap: async (privateOptions) => {
      const { plainDigest } = parsePrivateOptions(privateOptions);
      if (plainDigest === undefined) throw new TypeError('the private options lack the digest of the layer');
      return sealElement({ ...owner, plainDigest }, imageKey, privateOptions);
    },
  };
}

/** Opens elements of one image key; those of others are not its own. */
export function createLatchkeyUnwrapper(imageKeyId: string, imageKey: Uint8Array): KeyUnwrapper {
  return {
    annotation: LATCHKEY_ANNOTATION,
    unwrap: async (bytes) => {
      const element = parseElement(bytes);
      if (element.header.imageKeyId !== imageKeyId) return null;
      const privateOptions = openElement(element, imageKey);
      if (parsePrivateOptions(privateOptions).plainDigest === element.header.plainDigest)
        return privateOptions;
      throw new LatchkeyError('INPUT_MALFORMED', 'the latchkey annotation names another layer than its key');
    },
  };
}

/** Image keys in the admin API: minting and wrapping for CI. */
import * as z from 'zod';
import { MAX_ELEMENTS_PER_REQUEST, MAX_ELEMENT_CHARACTERS } from '#src/base/limits.ts';
import { digest, name } from './field.ts';

export const mintedImageKeyInputSchema = z.strictObject({ productCode: name });

export type MintedImageKeyInput = z.infer<typeof mintedImageKeyInputSchema>;

/** An image key that never leaves the key server. */
export const mintedImageKeySchema = z.object({
  id: z.string(),
  organizationId: z.string(),
  /** Shown where a node has no license to name; '' = nobody. */
  contact: z.string(),
});

export type MintedImageKey = z.infer<typeof mintedImageKeySchema>;

export const elementsInputSchema = z.strictObject({
  items: z
    .array(
      z.union([
        /** Compact JWE of a layer's private options, to the organization's import public key. */
        z.strictObject({ sealedOptions: z.string().max(MAX_ELEMENT_CHARACTERS) }),
        /** An element of a layer of a registered image of the same product, and that image's manifest. */
        z.strictObject({ element: z.base64().min(1).max(MAX_ELEMENT_CHARACTERS), imageDigest: digest }),
      ]),
    )
    .min(1)
    .max(MAX_ELEMENTS_PER_REQUEST),
});

export type ElementsInput = z.input<typeof elementsInputSchema>;

export const wrappedElementsSchema = z.object({
  /** In the order of the request. */
  elements: z.array(
    z.object({
      /** Base64; of the annotation for the key provider `latchkey`. */
      element: z.base64(),
      /** Of a layer taken over: its diff ID before it was salted; null when that is not known. */
      sourceDiffId: digest.nullable(),
    }),
  ),
});

export type WrappedElements = z.infer<typeof wrappedElementsSchema>;

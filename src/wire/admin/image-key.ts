/** Image keys in the admin API: minting and wrapping for CI, and their destruction. */
import * as z from 'zod';
import {
  DEFAULT_DESTRUCTION_DAYS,
  MAX_DESTRUCTION_DAYS,
  MAX_ELEMENTS_PER_REQUEST,
  MAX_ELEMENT_CHARACTERS,
  MIN_DESTRUCTION_DAYS,
} from '#src/base/limits.ts';
import { digest, imageKeyId, name, productCode, timeMs } from './field.ts';

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

/** An image key without the key. */
export const imageKeySchema = z.object({
  id: imageKeyId,
  revision: z.int(),
  productCode,
  /** Only an ACTIVE one opens its images. PENDING: its release is not registered yet. */
  state: z.enum(['PENDING', 'ACTIVE', 'DESTROY_SCHEDULED', 'DESTROYED']),
  /** When the key goes or went; null unless its destruction is scheduled or done. */
  destroyAtMs: timeMs.nullable(),
});

export type ImageKey = z.infer<typeof imageKeySchema>;

export const destructionInputSchema = z.strictObject({
  /** From now; until then it can be cancelled. */
  days: z.int().min(MIN_DESTRUCTION_DAYS).max(MAX_DESTRUCTION_DAYS).default(DEFAULT_DESTRUCTION_DAYS),
});

export type DestructionInput = z.input<typeof destructionInputSchema>;

/** The question whether a node may start an image, in the admin API. */
import * as z from 'zod';
import { digest, imageKeyId, name } from './field.ts';

export const preflightInputSchema = z.strictObject({
  nodeId: name,
  /** Of the image's index or of one of its manifests. */
  imageDigest: digest,
  /** Default: the image key that the release was registered with. */
  imageKeyId: imageKeyId.optional(),
});

export type PreflightInput = z.infer<typeof preflightInputSchema>;

export const preflightSchema = z.object({
  allowed: z.boolean(),
  nodeId: z.string(),
  imageDigest: z.string(),
  /** The license that allows it, or that the refusal is about; null = there is none. */
  licenseId: z.string().nullable(),
  /** Of the release; null when the image is not registered. */
  version: z.string().nullable(),
  /** Null when it is allowed, as is the next. */
  code: z.string().nullable(),
  message: z.string().nullable(),
  /** What to do next; null when the message says it. */
  hint: z.string().nullable(),
  /** Whom the customer asks; null when nobody was named. */
  contact: z.string().nullable(),
});

export type Preflight = z.infer<typeof preflightSchema>;

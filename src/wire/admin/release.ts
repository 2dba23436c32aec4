/** Releases in the admin API. */
import * as z from 'zod';
import { MAX_INDEX_ENTRIES, MAX_STATEMENT_ENVELOPE_BYTES } from '#src/base/limits.ts';
import { common, digest, entitlementCodes, imageKeyId, name, text } from './field.ts';
import { pageQuerySchema } from './page.ts';

export const releaseInputSchema = z.strictObject({
  productCode: name,
  repository: text.min(1).max(512),
  version: text.min(1).max(256),
  /** The image's index and every manifest in it. */
  imageDigests: z.array(digest).min(1).max(MAX_INDEX_ENTRIES),
  imageKeyId,
  /** Compact JWE of the 32-byte image key, to the organization's import public key; none for one made here. */
  sealedImageKey: z.string().max(4096).optional(),
  /** DSSE envelope (JSON) of the release statement; the vendor may have signed it, the key server adds its signature. */
  statement: z.string().max(MAX_STATEMENT_ENVELOPE_BYTES).optional(),
  /** Features that a license must hold, all of them, to run it. */
  entitlementCodes: entitlementCodes.optional(),
  /** The released image that this one is made from: what it required is required again, where nothing is said here. */
  derivedFrom: digest.optional(),
});

export type ReleaseInput = z.input<typeof releaseInputSchema>;

export const releaseSchema = z.object({
  ...common,
  productCode: z.string(),
  repository: z.string(),
  version: z.string(),
  imageKeyId: z.string(),
  state: z.enum(['PUBLISHED', 'YANKED']),
  imageDigests: z.array(z.string()),
  entitlementCodes: z.array(z.string()),
});

export type Release = z.infer<typeof releaseSchema>;

/** A release with its statement, signed; null for one that was registered without. */
export const signedReleaseSchema = releaseSchema.extend({ statement: z.string().nullable() });

export type SignedRelease = z.infer<typeof signedReleaseSchema>;

export const releaseQuerySchema = pageQuerySchema.extend({
  /** Code. */
  product: name.optional(),
  state: releaseSchema.shape.state.optional(),
  repository: text.min(1).max(512).optional(),
  version: text.min(1).max(256).optional(),
});

export type ReleaseQuery = z.output<typeof releaseQuerySchema>;

export type ReleaseFilter = Partial<z.input<typeof releaseQuerySchema>>;

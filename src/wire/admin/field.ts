/** Fields that several resources of the admin API share. Times are epoch milliseconds. */
import * as z from 'zod';
import { MAX_ENTITLEMENTS } from '#src/base/limits.ts';
import { isDigest } from '#src/oci/digest.ts';

/**
 * Text that a person gives; PostgreSQL stores none with a null character, and no database half a character: what comes back
 * would be another text, and two different ones the same.
 */
export const text = z
  .string()
  .trim()
  .refine((value) => !value.includes('\0'), 'holds a null character')
  .refine((value) => value.isWellFormed(), 'holds half a character (a surrogate without the other)');

export const name = text.min(1).max(200);

export const contact = text.max(256);

/** Up to the last moment that a Date can hold. */
export const timeMs = z.int().nonnegative().max(8.64e15);

export const common = { id: z.string(), revision: z.int(), createdAtMs: timeMs, updatedAtMs: timeMs };

/** Codes appear in commands and annotations, so they are short and plain. */
const code = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/,
    'lower-case letters, digits, dots, dashes and underscores, at most 63',
  );

export const productCode = code;

/** Features, as a license is sold with them and a release asks for them. */
export const entitlementCodes = z.array(code).max(MAX_ENTITLEMENTS);

export const imageKeyId = z
  .string()
  .regex(/^[A-Za-z0-9._:-]{1,128}$/, 'letters, digits and . _ : -, at most 128');

export const digest = z.string().refine(isDigest, 'not a sha256 digest');

/** Sealing and unsealing in the admin API. */
import * as z from 'zod';
import { text } from './field.ts';

/** What everybody may know: who has a share sees whether it is needed. */
export const sealStatusSchema = z.object({
  organizationId: z.string(),
  isSealed: z.boolean(),
});

export type SealStatus = z.infer<typeof sealStatusSchema>;

/** What opens the keys is what it takes; there is no token besides. */
export const unsealInputSchema = z.strictObject({
  /** Secret: what the root key file holds. */
  rootKey: z.string().regex(/^[0-9a-f]{64}$/, 'not 64 hex digits'),
});

export type UnsealInput = z.infer<typeof unsealInputSchema>;

export const sealInputSchema = z.strictObject({
  /** So that a request meant for another key server does not seal this one. */
  organizationId: z.string(),
  /** For the audit log. */
  reason: text.min(1).max(200),
});

export type SealInput = z.infer<typeof sealInputSchema>;

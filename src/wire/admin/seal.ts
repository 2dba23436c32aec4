/** Sealing, unsealing and the slots of the root key in the admin API. */
import * as z from 'zod';
import { MAX_KEY_SHARES, MAX_KEY_SHARE_TEXT } from '#src/base/limits.ts';
import { name, text, timeMs } from './field.ts';

/** Secret: what the root key file holds. */
/** As it stands in its file. */
export const rootKey = z.string().regex(/^[0-9a-f]{64}$/, 'not 64 hex digits');
/** Secret. */
const share = z.string().max(MAX_KEY_SHARE_TEXT);

/** A way to open the root key, without anything that opens it. */
export const rootKeySlotSchema = z.object({
  id: z.string(),
  kind: z.enum(['file', 'shamir', 'pkcs11']),
  label: z.string(),
  createdAtMs: timeMs,
  shares: z
    .object({
      count: z.int(),
      /** How many open it. */
      threshold: z.int(),
      /** How many of these a sealed key server has been given. */
      given: z.int(),
    })
    .nullable(),
});

export type RootKeySlotInfo = z.infer<typeof rootKeySlotSchema>;

/** What everybody may know: who has a share sees whether it is needed. */
export const sealStatusSchema = z.object({
  organizationId: z.string(),
  isSealed: z.boolean(),
  slots: z.array(rootKeySlotSchema),
});

export type SealStatus = z.infer<typeof sealStatusSchema>;

/** What opens the keys is what it takes; there is no token besides. */
export const unsealInputSchema = z.union([z.strictObject({ share }), z.strictObject({ rootKey })]);

export type UnsealInput = z.infer<typeof unsealInputSchema>;

export const sealInputSchema = z.strictObject({
  /** So that a request meant for another key server does not seal this one. */
  organizationId: z.string(),
  /** For the audit log. */
  reason: text.min(1).max(200),
});

export type SealInput = z.infer<typeof sealInputSchema>;

/** Shows that somebody can open the root key: a token alone changes nothing about who can. */
export const rootKeyProofSchema = z.union([
  z.strictObject({ rootKey }),
  z.strictObject({ shares: z.array(share).min(1).max(MAX_KEY_SHARES) }),
]);

export type RootKeyProof = z.infer<typeof rootKeyProofSchema>;

export const sharedSlotInputSchema = z
  .strictObject({
    label: name,
    shares: z.int().min(2).max(MAX_KEY_SHARES),
    threshold: z.int().min(2).max(MAX_KEY_SHARES),
    /** Takes the label of the shares that have it, which open the root key until their slot is removed. */
    replaces: z.boolean().default(false),
    proof: rootKeyProofSchema,
  })
  .refine(({ shares, threshold }) => threshold <= shares, 'the threshold is above the number of shares');

export type SharedSlotInput = z.infer<typeof sharedSlotInputSchema>;

/** Once: the key server does not keep the shares. */
export const addedSharedSlotSchema = z.object({
  slot: rootKeySlotSchema,
  shares: z.array(z.string()),
  /** Slot that had the label; remove it once the shares are out. */
  replacedSlotId: z.string().nullable(),
});

export type AddedSharedSlot = z.infer<typeof addedSharedSlotSchema>;

export const slotRemovalSchema = z.strictObject({ proof: rootKeyProofSchema });

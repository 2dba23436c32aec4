/** Offline bundles in the admin API. */
import * as z from 'zod';
import {
  MAX_OFFLINE_MS,
  MAX_OFFLINE_REQUESTS,
  MAX_OFFLINE_REQUEST_CHARACTERS,
  MAX_OFFLINE_STARTS,
  MIN_OFFLINE_MS,
} from '#src/base/limits.ts';
import { offlineBundleFileSchema } from '#src/licensing/offline-bundle.ts';
import { common, timeMs } from './field.ts';

export const checkOutInputSchema = z.strictObject({
  /** What `latchkey node request` has written on each node. */
  requests: z.array(z.string().min(1).max(MAX_OFFLINE_REQUEST_CHARACTERS)).min(1).max(MAX_OFFLINE_REQUESTS),
  /** The license may end earlier, and the bundle with it. */
  lifeMs: z
    .int()
    .min(MIN_OFFLINE_MS)
    .max(MAX_OFFLINE_MS)
    .optional()
    .describe('At most offlineMaxMs of the license; without it 30 days, or that where it is less'),
  maxStarts: z
    .int()
    .min(1)
    .max(MAX_OFFLINE_STARTS)
    .optional()
    .describe('How many containers each node can start with its bundle; without it any number'),
});

export type CheckOutInput = z.output<typeof checkOutInputSchema>;

export type CheckOutRequest = z.input<typeof checkOutInputSchema>;

/** VOID: the license has changed since, which the node finds out with its next contact, if it has one. */
export const OFFLINE_BUNDLE_STATES = ['ISSUED', 'SUPERSEDED', 'VOID', 'EXPIRED'] as const;

export const offlineBundleSchema = z.object({
  ...common,
  licenseId: z.string(),
  epoch: z.int(),
  nodeId: z.string(),
  nodeName: z.string(),
  /** One more with each bundle of the node. */
  sequence: z.int(),
  /** How many leases it holds: one for each image. */
  leases: z.int(),
  /** Containers that can be started with it; null = any number. */
  maxStarts: z.int().nullable(),
  state: z.enum(OFFLINE_BUNDLE_STATES),
  expiresAtMs: timeMs,
});

export type OfflineBundle = z.infer<typeof offlineBundleSchema>;

/** The only answer that ever holds the bundles themselves; their image keys are sealed to the nodes. */
export const checkedOutSchema = z.object({
  bundles: z.array(offlineBundleSchema),
  file: offlineBundleFileSchema,
});

export type CheckedOut = z.infer<typeof checkedOutSchema>;

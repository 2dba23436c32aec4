/** Leases in the admin API. */
import * as z from 'zod';
import { timeMs } from './field.ts';

export const leaseSchema = z.object({
  id: z.string(),
  licenseId: z.string(),
  epoch: z.int(),
  nodeId: z.string(),
  imageDigest: z.string(),
  imageKeyId: z.string(),
  previousLeaseId: z.string().nullable(),
  /** The bundle that it was carried to the node in. */
  offlineBundleId: z.string().nullable(),
  issuedAtMs: timeMs,
  renewAtMs: timeMs,
  expiresAtMs: timeMs,
});

export type Lease = z.infer<typeof leaseSchema>;

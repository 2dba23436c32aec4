/** Leases in the admin API. */
import * as z from 'zod';
import { LEASE_STATES } from '#src/licensing/lease-state.ts';
import { name, timeMs } from './field.ts';
import { pageQuerySchema } from './page.ts';

export const leaseSchema = z.object({
  id: z.string(),
  state: z.enum(LEASE_STATES),
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
  /** Until when its node can start with it while it reaches no key server. */
  usableUntilMs: timeMs,
});

export type Lease = z.infer<typeof leaseSchema>;

/** Ids; created is when a lease was issued. */
export const leaseQuerySchema = pageQuerySchema.extend({ license: name.optional(), node: name.optional() });

export type LeaseQuery = z.output<typeof leaseQuerySchema>;

export type LeaseFilter = Partial<z.input<typeof leaseQuerySchema>>;

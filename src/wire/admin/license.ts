/** Licenses in the admin API. */
import * as z from 'zod';
import {
  DEFAULT_LEASE_DURATION_MS,
  DEFAULT_MAX_NODES,
  MAX_LEASE_DURATION_MS,
  MAX_SEATS_PER_LICENSE,
  MIN_LEASE_DURATION_MS,
} from '#src/base/limits.ts';
import { isVersionRange } from '#src/licensing/coverage.ts';
import { LICENSE_STATES, ON_REVOKE } from '#src/licensing/license-state.ts';
import { OVERAGES } from '#src/licensing/seats.ts';
import { common, contact, entitlementCodes, name, text, timeMs } from './field.ts';

const seats = z.int().min(1).max(MAX_SEATS_PER_LICENSE);

export const licenseInputSchema = z.strictObject({
  /** Id, external id or name. */
  customer: name,
  /** Code. */
  product: name,
  plan: name.optional(),
  startsAtMs: timeMs.optional(),
  expiresAtMs: timeMs.optional(),
  maxNodes: seats.default(DEFAULT_MAX_NODES),
  /** Clusters or sites; default: not limited. */
  maxInstallations: seats.optional(),
  /** Nodes that hold a lease at once; default: not limited. */
  maxConcurrent: seats.optional(),
  /** By how much each of these may be overdrawn. */
  overage: z.enum(OVERAGES).default('none'),
  leaseDurationMs: z
    .int()
    .min(MIN_LEASE_DURATION_MS)
    .max(MAX_LEASE_DURATION_MS)
    .default(DEFAULT_LEASE_DURATION_MS),
  onRevoke: z.enum(ON_REVOKE).default('deny-start'),
  contact: contact.optional(),
  /** Versions that are covered; default: all. */
  versionConstraint: z
    .string()
    .trim()
    .min(1)
    .max(200)
    .refine(isVersionRange, 'is not a semver range; give one like ^1.2 or >=1.0 <3.0')
    .optional(),
  /** Releases published after it are not covered; default: all are. */
  maintenanceUntilMs: timeMs.optional(),
  /** Codes of the features that are sold with it. */
  entitlements: entitlementCodes.default([]),
});

/** As checked, with defaults filled in. */
export type LicenseInput = z.output<typeof licenseInputSchema>;

export type LicenseRequest = z.input<typeof licenseInputSchema>;

export const licenseSchema = z.object({
  ...common,
  customerId: z.string(),
  customerName: z.string(),
  productCode: z.string(),
  plan: z.string().nullable(),
  /** The state now; time decides between ACTIVE, NOT_STARTED and EXPIRED. */
  state: z.enum(LICENSE_STATES),
  epoch: z.int(),
  reason: z.string().nullable(),
  keyLast4: z.string(),
  startsAtMs: timeMs.nullable(),
  expiresAtMs: timeMs.nullable(),
  maxNodes: z.int(),
  usedNodes: z.int(),
  maxInstallations: z.int().nullable(),
  usedInstallations: z.int(),
  maxConcurrent: z.int().nullable(),
  /** Nodes that hold a lease now. */
  usedConcurrent: z.int(),
  overage: z.enum(OVERAGES),
  leaseDurationMs: z.int(),
  onRevoke: z.enum(ON_REVOKE),
  contact: z.string().nullable(),
  versionConstraint: z.string().nullable(),
  maintenanceUntilMs: timeMs.nullable(),
  entitlements: z.array(z.string()),
});

export type License = z.infer<typeof licenseSchema>;

/** The only answer that ever holds a license key. */
export const createdLicenseSchema = z.object({ license: licenseSchema, licenseKey: z.string() });

export type CreatedLicense = z.infer<typeof createdLicenseSchema>;

export const licenseChangeInputSchema = z.strictObject({ reason: text.max(500).optional() });

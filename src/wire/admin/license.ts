/** Licenses in the admin API. */
import * as z from 'zod';
import {
  DEFAULT_LEASE_DURATION_MS,
  DEFAULT_MAX_NODES,
  MAX_LEASE_DURATION_MS,
  MAX_NODES_PER_LICENSE,
  MIN_LEASE_DURATION_MS,
} from '#src/base/limits.ts';
import { isVersionRange } from '#src/licensing/coverage.ts';
import { LICENSE_STATES, ON_REVOKE } from '#src/licensing/license-state.ts';
import { common, contact, entitlementCodes, name, text, timeMs } from './field.ts';

export const licenseInputSchema = z.strictObject({
  /** Id, external id or name. */
  customer: name,
  /** Code. */
  product: name,
  plan: name.optional(),
  startsAtMs: timeMs.optional(),
  expiresAtMs: timeMs.optional(),
  maxNodes: z.int().min(1).max(MAX_NODES_PER_LICENSE).default(DEFAULT_MAX_NODES),
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

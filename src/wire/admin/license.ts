/** Licenses in the admin API. */
import * as z from 'zod';
import { MAX_LICENSE_DURATION_MS, MAX_LICENSE_TIME_MS, MIN_LICENSE_DURATION_MS } from '#src/base/limits.ts';
import { LICENSE_STATES } from '#src/licensing/license-state.ts';
import { common, contact, name, text, timeMs } from './field.ts';
import { metadata, metadataChange, tag, tags } from './labels.ts';
import { termAnswers, termChanges, termInputs } from './license-terms.ts';
import { policyCode } from './policy.ts';
import { pageQuerySchema, queryTimeMs } from './page.ts';

/** When a license begins or ends. */
const licenseTimeMs = z.int().nonnegative().max(MAX_LICENSE_TIME_MS);

export const licenseInputSchema = z.strictObject({
  /** Id, external id or name. */
  customer: name,
  /** Code. */
  product: name,
  plan: name.optional(),
  /** Code of the policy that gives what is not said here; default: none. */
  policy: policyCode.optional(),
  startsAtMs: licenseTimeMs.optional(),
  expiresAtMs: licenseTimeMs.optional(),
  ...z.strictObject(termInputs).partial().shape,
  contact: contact.optional(),
  /** Releases published after it are not covered; default: all are. */
  maintenanceUntilMs: timeMs.optional(),
  tags: tags.default([]),
  metadata: metadata.default({}),
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
  policyCode: z.string().nullable(),
  /** Names of the terms that are its own; the others are its policy's. */
  ownTerms: z.array(z.string()),
  isTrial: z.boolean(),
  /** The state now; time decides between ACTIVE, NOT_STARTED, GRACE and EXPIRED. */
  state: z.enum(LICENSE_STATES),
  epoch: z.int(),
  reason: z.string().nullable(),
  keyLast4: z.string(),
  startsAtMs: timeMs.nullable(),
  expiresAtMs: timeMs.nullable(),
  ...termAnswers,
  usedNodes: z.int(),
  usedInstallations: z.int(),
  /** Nodes that hold a lease now. */
  usedConcurrent: z.int(),
  contact: z.string().nullable(),
  maintenanceUntilMs: timeMs.nullable(),
  tags: z.array(z.string()),
  metadata: z.record(z.string(), z.string()),
});

export type License = z.infer<typeof licenseSchema>;

export const licenseQuerySchema = pageQuerySchema.extend({
  /** As `state` of a license is now. */
  state: z.enum(LICENSE_STATES).optional(),
  /** Id, external id or name. */
  customer: name.optional(),
  /** Code. */
  product: name.optional(),
  /** Id of a node that was activated with it. */
  node: name.optional(),
  expiresFromMs: queryTimeMs.optional(),
  expiresUntilMs: queryTimeMs.optional(),
  tag: tag.optional(),
});

export type LicenseQuery = z.output<typeof licenseQuerySchema>;

export type LicenseFilter = Partial<z.input<typeof licenseQuerySchema>>;

/** The only answer that ever holds a license key. */
export const createdLicenseSchema = z.object({ license: licenseSchema, licenseKey: z.string() });

export type CreatedLicense = z.infer<typeof createdLicenseSchema>;

export const licenseChangeInputSchema = z.strictObject({ reason: text.max(500).optional() });

/** In place of an end: there is none, whatever the duration. */
export const NEVER = 'never';

/** What is left out stays. Null = none, and of a term: as the policy says. */
export const licenseUpdateSchema = z.strictObject({
  policy: policyCode.nullable().optional(),
  plan: name.nullable().optional(),
  startsAtMs: licenseTimeMs.nullable().optional(),
  /** Null = as the duration says. */
  expiresAtMs: z
    .union([licenseTimeMs, z.literal(NEVER)])
    .nullable()
    .optional(),
  contact: contact.nullable().optional(),
  maintenanceUntilMs: timeMs.nullable().optional(),
  /** In place of those that it has. */
  tags: tags.nullable().optional(),
  /** What is not named stays; null takes an entry away, or all. */
  metadata: metadataChange.nullable().optional(),
  ...termChanges,
});

export type LicenseUpdate = z.input<typeof licenseUpdateSchema>;

export const licenseRenewalSchema = z.strictObject({
  /** Default: the license's duration. */
  durationMs: z.int().min(MIN_LICENSE_DURATION_MS).max(MAX_LICENSE_DURATION_MS).optional(),
});

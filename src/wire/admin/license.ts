/** Licenses in the admin API. */
import * as z from 'zod';
import { LICENSE_STATES } from '#src/licensing/license-state.ts';
import { common, contact, name, text, timeMs } from './field.ts';
import { termAnswers, termInputs } from './license-terms.ts';

export const licenseInputSchema = z.strictObject({
  /** Id, external id or name. */
  customer: name,
  /** Code. */
  product: name,
  plan: name.optional(),
  startsAtMs: timeMs.optional(),
  expiresAtMs: timeMs.optional(),
  ...z.strictObject(termInputs).partial().shape,
  contact: contact.optional(),
  /** Releases published after it are not covered; default: all are. */
  maintenanceUntilMs: timeMs.optional(),
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
});

export type License = z.infer<typeof licenseSchema>;

/** The only answer that ever holds a license key. */
export const createdLicenseSchema = z.object({ license: licenseSchema, licenseKey: z.string() });

export type CreatedLicense = z.infer<typeof createdLicenseSchema>;

export const licenseChangeInputSchema = z.strictObject({ reason: text.max(500).optional() });

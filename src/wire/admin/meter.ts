/** Meters of licenses in the admin API: how much of something was used, and how much was sold. */
import * as z from 'zod';
import { MAX_USAGE_AMOUNT } from '#src/base/limits.ts';
import { common, timeMs } from './field.ts';
import { pageQuerySchema } from './page.ts';

/** Plain, as it stands in programs of the vendor. */
export const meterName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/,
    'lower-case letters, digits, dots, dashes and underscores, at most 63',
  );

const amount = z.int().min(1).max(MAX_USAGE_AMOUNT);

export const meterInputSchema = z.strictObject({
  max: amount.nullable().describe('How much was sold; null = without a limit'),
  isOpenToNodes: z
    .boolean()
    .optional()
    .describe('Whether nodes of the license may report to it; left out: as it was, at first not'),
});

export type MeterInput = z.infer<typeof meterInputSchema>;

export const meterSchema = z.object({
  ...common,
  licenseId: z.string(),
  name: z.string(),
  used: z.int(),
  /** Null = without a limit, as is the next. */
  max: z.int().nullable(),
  remaining: z.int().nullable(),
  isExceeded: z.boolean(),
  isOpenToNodes: z.boolean(),
});

export type Meter = z.infer<typeof meterSchema>;

export const usageReportInputSchema = z.strictObject({
  reportId: z
    .string()
    .regex(/^[\x21-\x7e]{1,128}$/, 'up to 128 printable ASCII characters')
    .describe('Of the one who reports; the same report again counts once'),
  amount: amount.describe('What was used since the report before'),
});

export type UsageReportInput = z.infer<typeof usageReportInputSchema>;

export const usageReportSchema = z.object({
  id: z.string(),
  licenseId: z.string(),
  meter: z.string(),
  reportId: z.string(),
  amount: z.int(),
  /** Of the meter, with this report. */
  total: z.int(),
  reportedAtMs: timeMs,
});

export type UsageReport = z.infer<typeof usageReportSchema>;

/** The meter as it is now, which may be more than the total of the report. */
export const reportedUsageSchema = z.object({ report: usageReportSchema, meter: meterSchema });

export type ReportedUsage = z.infer<typeof reportedUsageSchema>;

export const usageQuerySchema = pageQuerySchema.extend({ meter: meterName.optional() });

export type UsageQuery = z.output<typeof usageQuerySchema>;

export type UsageFilter = Partial<z.input<typeof usageQuerySchema>>;

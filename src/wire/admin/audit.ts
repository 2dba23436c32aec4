/** Audit events in the admin API. */
import * as z from 'zod';
import { auditEventSchema } from '#src/crypto/audit-chain.ts';
import { text, timeMs } from './field.ts';
import { limit, order, pageSchema, queryTimeMs } from './page.ts';

export const AUDIT_OUTCOMES = ['done', 'allowed', 'denied'] as const;
export type AuditOutcome = (typeof AUDIT_OUTCOMES)[number];

/** An image digest is the longest of them. */
const MAX_AUDIT_TERM = 512;

/** The longest text that the log conceals: a reason. */
export const MAX_CONCEALED_TEXT = 1024;

export const auditQuerySchema = z.strictObject({
  after: z.coerce
    .number()
    .int()
    .nonnegative()
    .max(Number.MAX_SAFE_INTEGER - 1)
    .default(0)
    .describe(
      'Sequence number of the last event that was read; 0 = from the beginning, or from the end with desc',
    ),
  limit,
  order,
  target: text
    .min(1)
    .max(MAX_AUDIT_TERM)
    .optional()
    .describe('Only what happened to this object: its history'),
  actor: text
    .min(1)
    .max(MAX_AUDIT_TERM)
    .optional()
    .describe('Only what this one did, such as token:ID or node:ID'),
  action: text.min(1).max(MAX_AUDIT_TERM).optional().describe('Only this action, such as license.revoke'),
  outcome: z
    .enum(AUDIT_OUTCOMES)
    .optional()
    .describe('done = a change, allowed and denied = an answer to a node or a token'),
  fromMs: queryTimeMs.optional().describe('At this moment or later'),
  untilMs: queryTimeMs.optional().describe('Before this moment'),
});

export type AuditQuery = z.output<typeof auditQuerySchema>;

export type AuditFilter = Partial<z.input<typeof auditQuerySchema>>;

export const auditPageSchema = pageSchema(auditEventSchema);

/** The newest checkpoint. */
export const auditCheckpointSchema = z.object({
  /** NAME+ID+KEY (C2SP signed-note), what the checkpoint is verified with. */
  verifierKey: z.string(),
  /** A signed note (C2SP tlog-checkpoint). */
  checkpoint: z.string(),
});

export type AuditCheckpointAnswer = z.infer<typeof auditCheckpointSchema>;

/** A copy of the log that is made somewhere else, and how far it has come. */
export const auditExportSchema = z.object({
  name: z.string(),
  /** Sequence number of the last event that has arrived there. */
  position: z.int(),
  /** Events that have not. */
  behind: z.int(),
  /** When the oldest of those was written; null when there is none. */
  waitingSinceMs: timeMs.nullable(),
  deliveredAtMs: timeMs.nullable(),
  /** Null when the last try was a success. */
  failingSinceMs: timeMs.nullable(),
  failure: z.string().nullable(),
});

export type AuditExport = z.infer<typeof auditExportSchema>;

export const auditExportsSchema = z.object({ items: z.array(auditExportSchema) });

/** A text as the log conceals it: `hmac:` and 43 characters. */
export const concealInputSchema = z.strictObject({ text: text.min(1).max(MAX_CONCEALED_TEXT) });

export const concealedSchema = z.object({ concealed: z.string() });

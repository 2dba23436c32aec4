/** Audit events in the admin API. */
import * as z from 'zod';
import { auditEventSchema } from '#src/crypto/audit-chain.ts';
import { timeMs } from './field.ts';
import { limit } from './page.ts';

/** Events after a sequence number, oldest first. */
export const auditQuerySchema = z.strictObject({
  after: z.coerce.number().int().nonnegative().default(0),
  limit,
  /** Only what happened to this object: its history. */
  target: z.string().min(1).optional(),
});

export type AuditQuery = z.infer<typeof auditQuerySchema>;

export const auditPageSchema = z.object({ items: z.array(auditEventSchema) });

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

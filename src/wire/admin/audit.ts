/** Audit events in the admin API. */
import * as z from 'zod';
import { auditEventSchema } from '#src/crypto/audit-chain.ts';
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

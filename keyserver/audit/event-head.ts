/** An audit event as it is stored, without its detail. */
import type { Selectable } from 'kysely';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import type { AuditEventTable } from '../db/tables/audit.ts';

/** Gives the event of a row; the detail, which may be broken, is for those who need it. */
export function toEventHead(row: Omit<Selectable<AuditEventTable>, 'detail'>): Omit<AuditEvent, 'detail'> {
  return {
    sequence: row.sequence,
    organizationId: row.organization_id,
    timeMs: row.time_ms,
    actor: row.actor,
    ...(row.auth_method === null ? {} : { authMethod: row.auth_method }),
    action: row.action,
    target: row.target,
    outcome: row.outcome,
    code: row.code,
    ...(row.request_id === null ? {} : { requestId: row.request_id }),
    previousHash: row.previous_hash,
    hash: row.hash,
  };
}

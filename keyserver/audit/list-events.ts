/** Reads the audit log. */
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import type { AuditQuery } from '#src/wire/admin/audit.ts';
import { toEventHead } from './event-head.ts';
import type { Reader } from '../db/store.ts';

/** Gives events after a sequence number, oldest first; all, or those of one target. */
export async function listAuditEvents(reader: Reader, query: AuditQuery): Promise<AuditEvent[]> {
  let events = reader
    .selectFrom('audit_event')
    .selectAll()
    .where('sequence', '>', query.after)
    .orderBy('sequence')
    .limit(query.limit);
  if (query.target !== undefined) events = events.where('target', '=', query.target);
  const rows = await events.execute();
  return rows.map((row) => {
    // In the order in which an export has the fields, so that every copy of an event is the same text.
    const { previousHash, hash, ...head } = toEventHead(row);
    return { ...head, detail: parseDetail(row.detail), previousHash, hash };
  });
}

/** A detail that somebody has broken must still be listed, so that the verification can name its event. */
function parseDetail(text: string): AuditEvent['detail'] {
  try {
    return JSON.parse(text) as AuditEvent['detail'];
  } catch {
    return text;
  }
}

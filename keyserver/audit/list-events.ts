/** Reads the audit log. */
import { type Expression, type Selectable, type SqlBool, sql } from 'kysely';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import type { AuditQuery } from '#src/wire/admin/audit.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { Reader } from '../db/store.ts';
import type { AuditEventTable } from '../db/tables/audit.ts';
import { toEventHead } from './event-head.ts';

/** Gives events after a sequence number, oldest first. */
export async function auditEventsAfter(reader: Reader, after: number, limit: number): Promise<AuditEvent[]> {
  const rows = await reader
    .selectFrom('audit_event')
    .selectAll()
    .where('sequence', '>', after)
    .orderBy('sequence')
    .limit(limit)
    .execute();
  return rows.map(toEvent);
}

/** Gives a page of events; the place of a page is the sequence number of its last event. */
export async function listAuditEvents(reader: Reader, query: AuditQuery): Promise<Page<AuditEvent>> {
  const { after, fromMs, untilMs, order, limit } = query;
  const from = fromMs === undefined ? 0 : await firstSequenceFrom(reader, fromMs);
  const until = untilMs === undefined ? undefined : await firstSequenceFrom(reader, untilMs);
  let events = reader
    .selectFrom('audit_event')
    .selectAll()
    .where('sequence', '>=', order === 'asc' ? Math.max(from, after + 1) : from)
    .orderBy('sequence', order)
    .limit(limit + 1);
  const end = order === 'desc' && after > 0 ? Math.min(after, until ?? after) : until;
  if (end !== undefined) events = events.where('sequence', '<', end);
  if (query.target !== undefined) events = events.where('target', '=', query.target);
  if (query.actor !== undefined) events = events.where('actor', '=', query.actor);
  if (query.action !== undefined) events = events.where('action', '=', query.action);
  if (query.outcome !== undefined) events = events.where(hasOutcome(query.outcome));
  const rows = await events.execute();
  const items = rows.slice(0, limit).map(toEvent);
  const last = rows.length > limit ? items.at(-1) : undefined;
  return { items, nextAfter: last === undefined ? null : String(last.sequence) };
}

/** The index of an outcome is used only where the query says which one it is. */
function hasOutcome(outcome: NonNullable<AuditQuery['outcome']>): Expression<SqlBool> {
  return sql<SqlBool>`outcome = ${sql.lit(outcome)}`;
}

/** Events are in the order of their times, so a moment is found by halving, without an index. */
async function firstSequenceFrom(reader: Reader, timeMs: number): Promise<number> {
  const { last } = await reader
    .selectFrom('audit_event')
    .select((select) => select.fn.max<number | null>('sequence').as('last'))
    .executeTakeFirstOrThrow();
  let low = 1;
  let high = (last ?? 0) + 1;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const event = await reader
      .selectFrom('audit_event')
      .select(['sequence', 'time_ms'])
      .where('sequence', '>=', middle)
      .orderBy('sequence')
      .limit(1)
      .executeTakeFirst();
    if (event === undefined || event.time_ms >= timeMs) high = middle;
    else low = event.sequence + 1;
  }
  return low;
}

/** In the order in which an export has the fields, so that every copy of an event is the same text. */
function toEvent(row: Selectable<AuditEventTable>): AuditEvent {
  const { previousHash, hash, ...head } = toEventHead(row);
  return { ...head, detail: parseDetail(row.detail), previousHash, hash };
}

/** A detail that somebody has broken must still be listed, so that the verification can name its event. */
function parseDetail(text: string): AuditEvent['detail'] {
  try {
    return JSON.parse(text) as AuditEvent['detail'];
  } catch {
    return text;
  }
}

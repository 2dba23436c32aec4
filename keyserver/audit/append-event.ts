/** Writes the audit log, in the same transaction as what it tells of. */
import { sql } from 'kysely';
import { AUDIT_START, type AuditEventBody, type AuditHead, auditHash } from '#src/crypto/audit-chain.ts';
import { canonicalJson } from '#src/base/json.ts';
import type { AuditAction } from '#src/licensing/audit-actions.ts';
import type { AuthMethod } from '#src/licensing/auth-method.ts';
import { currentRequestId } from '../current-request.ts';
import { TransactionValue } from '../db/open-transaction.ts';
import { preparedInsertAll, preparedQuery } from '../db/prepared-query.ts';
import type { Writer } from '../db/store.ts';
import type { AuditEventTable } from '../db/tables/audit.ts';
import type { ConcealedFields } from './concealed-text.ts';

/** `token:ID`, `node:ID`, or one of the two that have no id. */
export type Actor = `token:${string}` | `node:${string}` | 'enrollment' | 'system';

/** Never holds a license key, an image key or a token, nor in plain what tells of people. */
export type AuditDetail = Readonly<Record<string, string | number | boolean | null | string[]>> &
  ConcealedFields;

export interface AuditEntry {
  readonly actor: Actor;
  /** Default = what the actor is known by. */
  readonly authMethod?: AuthMethod | undefined;
  readonly action: AuditAction;
  readonly target: string;
  readonly outcome: 'done' | 'allowed' | 'denied';
  readonly code?: string | undefined;
  readonly detail?: AuditDetail | undefined;
}

/** SQLite plans a query with a limit that is a parameter anew each time. */
const lastEvent = preparedQuery((reader) =>
  reader
    .selectFrom('audit_event')
    .select(['sequence', 'hash', 'time_ms'])
    .orderBy('sequence', 'desc')
    .limit(sql.lit(1)),
);

/** The log is appended to by one transaction at a time. */
const knownHead = new TransactionValue<AuditHead>();

const insertEvents = preparedInsertAll('audit_event');

/** What an event is known by. */
export interface AppendedEvent {
  readonly sequence: number;
  readonly hash: string;
}

/** Appends one event. */
export async function appendAuditEvent(
  writer: Writer,
  organizationId: string,
  nowMs: number,
  entry: AuditEntry,
): Promise<AppendedEvent> {
  const [event] = await appendAuditEvents(writer, organizationId, nowMs, [entry]);
  if (event === undefined) throw new TypeError('an audit event was not appended');
  return event;
}

/** Appends events that happened together, in their order. */
export async function appendAuditEvents(
  writer: Writer,
  organizationId: string,
  nowMs: number,
  entries: readonly AuditEntry[],
): Promise<AppendedEvent[]> {
  let head = knownHead.get(writer) ?? (await loadHead(writer));
  const requestId = currentRequestId();
  const rows: AuditEventTable[] = [];
  for (const entry of entries) {
    const body: AuditEventBody = {
      sequence: head.sequence + 1,
      organizationId,
      // A clock that was set back must not make an honest log look forged.
      timeMs: Math.max(nowMs, head.timeMs),
      actor: entry.actor,
      authMethod: entry.authMethod ?? authMethodOf(entry.actor),
      action: entry.action,
      target: entry.target,
      outcome: entry.outcome,
      code: entry.code ?? null,
      requestId,
      detail: entry.detail ?? {},
    };
    const detail = canonicalJson(body.detail);
    const hash = auditHash(head.hash, body, detail);
    rows.push({
      sequence: body.sequence,
      organization_id: organizationId,
      time_ms: body.timeMs,
      actor: body.actor,
      auth_method: body.authMethod ?? null,
      action: body.action,
      target: body.target,
      outcome: body.outcome,
      code: body.code,
      request_id: body.requestId ?? null,
      detail,
      previous_hash: head.hash,
      hash,
    });
    head = { sequence: body.sequence, hash, timeMs: body.timeMs };
  }
  await insertEvents(writer, rows);
  knownHead.set(writer, head);
  return rows.map(({ sequence, hash }) => ({ sequence, hash }));
}

function authMethodOf(actor: Actor): AuthMethod {
  if (actor.startsWith('token:')) return 'api-token';
  return actor.startsWith('node:') ? 'node-certificate' : 'none';
}

async function loadHead(writer: Writer): Promise<AuditHead> {
  const [last] = await lastEvent(writer, {});
  return last === undefined ? AUDIT_START : { ...last, timeMs: last.time_ms };
}

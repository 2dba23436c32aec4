/**
 * The audit log as a hash chain: hash = SHA-256(previous hash || canonical JSON of the event). Changing,
 * removing or reordering an event breaks every hash after it. What a chain alone cannot show is a removed
 * tail; for that there are checkpoints and receipts: every lease names its event.
 */
import { hash } from 'node:crypto';
import * as z from 'zod';
import { canonicalJson } from '#src/base/json.ts';

/** The previous hash of the first event. */
export const AUDIT_GENESIS_HASH = '0'.repeat(64);

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/);

export const auditEventSchema = z.object({
  /** 1, 2, 3 ... without gaps. */
  sequence: z.int(),
  organizationId: z.string(),
  /** Never goes back, even when the wall clock does. */
  timeMs: z.int(),
  /** Who: `token:ID`, `node:ID`, `enrollment` or `system`. */
  actor: z.string(),
  /** How the actor has shown who it is; an event of before it was written has none. */
  authMethod: z.string().optional(),
  /** What: `license.revoke`, `lease.acquire` ... */
  action: z.string(),
  /** The id it was done to. */
  target: z.string(),
  outcome: z.string(),
  /** The denial code, or null. */
  code: z.string().nullable(),
  /** Of the request that it came about by, as in the key server's log; none where nobody has asked. */
  requestId: z.string().optional(),
  detail: z.json(),
  previousHash: hashSchema,
  hash: hashSchema,
});

export type AuditEvent = z.infer<typeof auditEventSchema>;
export type AuditEventBody = Omit<AuditEvent, 'previousHash' | 'hash'>;

/**
 * Gives the hash of an event, 64 hex digits.
 * @param detail canonical JSON of the event's detail, where there is one already
 */
export function auditHash(
  previousHash: string,
  body: AuditEventBody,
  detail = canonicalJson(body.detail),
): string {
  const json = canonicalJson;
  // Canonical JSON of the whole event: its fields are known, so they need not be sorted for each.
  const method = body.authMethod === undefined ? '' : `"authMethod":${json(body.authMethod)},`;
  const request = body.requestId === undefined ? '' : `"requestId":${json(body.requestId)},`;
  const event =
    `{"action":${json(body.action)},"actor":${json(body.actor)},${method}"code":${json(body.code)},"detail":${detail},` +
    `"organizationId":${json(body.organizationId)},"outcome":${json(body.outcome)},${request}"sequence":${json(body.sequence)},` +
    `"target":${json(body.target)},"timeMs":${json(body.timeMs)}}`;
  return hash('sha256', Buffer.concat([Buffer.from(previousHash, 'hex'), Buffer.from(event)]), 'hex');
}

/** The end of a chain, from where the next event goes on. */
export interface AuditHead {
  readonly sequence: number;
  readonly hash: string;
  readonly timeMs: number;
}

export const AUDIT_START: AuditHead = { sequence: 0, hash: AUDIT_GENESIS_HASH, timeMs: 0 };

export type AuditCheck =
  { readonly ok: true; readonly head: AuditHead } | { readonly ok: false; readonly fault: string };

/** Checks that an event goes on from a head; the fault names the event and what is wrong with it. */
export function checkAuditEvent(head: AuditHead, event: AuditEvent): AuditCheck {
  const fault = auditFault(head, event);
  if (fault !== null) return { ok: false, fault };
  return { ok: true, head: { sequence: event.sequence, hash: event.hash, timeMs: event.timeMs } };
}

function auditFault(head: AuditHead, event: AuditEvent): string | null {
  const expected = head.sequence + 1;
  if (event.sequence !== expected) {
    return event.sequence > expected
      ? `event ${expected} is missing (the next one is ${event.sequence})`
      : `event ${event.sequence} stands where event ${expected} should be`;
  }
  if (event.previousHash !== head.hash)
    return `event ${event.sequence} does not follow event ${head.sequence}`;
  if (event.hash !== hashOrNull(head.hash, event)) return `event ${event.sequence} was changed`;
  if (event.timeMs < head.timeMs) return `event ${event.sequence} is older than the event before it`;
  return null;
}

/** A changed number may not even have a canonical form. */
function hashOrNull(previousHash: string, event: AuditEvent): string | null {
  try {
    return auditHash(previousHash, event);
  } catch {
    return null;
  }
}

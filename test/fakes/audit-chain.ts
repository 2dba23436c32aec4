/** Audit logs as a key server writes them, and as somebody with its database would. */
import { AUDIT_START, type AuditEvent, type AuditHead, auditHash } from '#src/crypto/audit-chain.ts';

/** A log of so many revocations. */
export function chain(length: number, organizationId = 'org_a'): AuditEvent[] {
  const bodies = Array.from({ length }, (_, index) => ({
    sequence: index + 1,
    organizationId,
    timeMs: 1001 + index,
    actor: 'system',
    action: 'license.revoke',
    target: `lic_${index + 1}`,
    outcome: 'done',
    code: null,
    detail: { epoch: index + 1 },
  }));
  return rechained(bodies);
}

/** Numbers events anew and computes the chain over them. */
export function rechained(events: readonly Omit<AuditEvent, 'previousHash' | 'hash'>[]): AuditEvent[] {
  let head: AuditHead = AUDIT_START;
  return events.map((event) => {
    const body = { ...event, sequence: head.sequence + 1 };
    const hash = auditHash(head.hash, body);
    const chained = { ...body, previousHash: head.hash, hash };
    head = { sequence: body.sequence, hash, timeMs: body.timeMs };
    return chained;
  });
}

/** As they are read from somewhere. */
export async function* listed<Item>(items: readonly Item[]): AsyncGenerator<Item> {
  for (const item of items) yield await Promise.resolve(item);
}

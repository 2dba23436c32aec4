import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson } from '#src/base/json.ts';
import { AUDIT_START, type AuditEvent, auditHash, checkAuditEvent } from '#src/crypto/audit-chain.ts';
import { chain } from '../fakes/audit-chain.ts';

function verify(events: readonly AuditEvent[]): string | null {
  let head = AUDIT_START;
  for (const event of events) {
    const check = checkAuditEvent(head, event);
    if (!check.ok) return check.fault;
    head = check.head;
  }
  return null;
}

describe('the audit chain', () => {
  it('hashes the canonical JSON of each event, whatever stands in it', () => {
    const texts = { actor: fc.string(), action: fc.string(), target: fc.string(), outcome: fc.string() };
    const since = fc.record({ authMethod: fc.string(), requestId: fc.string() }, { requiredKeys: [] });
    const known = fc.record({
      ...{ ...texts, organizationId: fc.string(), code: fc.option(fc.string()) },
      ...{ sequence: fc.maxSafeInteger(), timeMs: fc.maxSafeInteger() },
      detail: fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.maxSafeInteger(), fc.boolean())),
    });
    const bodies = fc.tuple(known, since).map(([body, more]) => ({ ...body, ...more }));
    fc.assert(
      fc.property(bodies, fc.uint8Array({ minLength: 32, maxLength: 32 }), (body, previous) => {
        const expected = createHash('sha256').update(previous).update(canonicalJson(body)).digest('hex');
        const previousHash = Buffer.from(previous).toString('hex');
        expect(auditHash(previousHash, body)).toBe(expected);
        expect(auditHash(previousHash, body, canonicalJson(body.detail))).toBe(expected);
      }),
    );
  });

  it('verifies as it was written', () => {
    expect(verify(chain(20))).toBeNull();
  });

  it.each(
    Object.entries({
      sequence: 99,
      organizationId: 'org_b',
      timeMs: 1,
      actor: 'token:x',
      authMethod: 'api-token',
      requestId: 'other',
      action: 'license.create',
      target: 'lic_x',
      outcome: 'denied',
      code: 'DENIED_SEALED',
      detail: { epoch: 0.5 },
      previousHash: 'f'.repeat(64),
      hash: 'e'.repeat(64),
    }),
  )('shows a changed %s and names the event', (field, value) => {
    const events = chain(5).map((event) => (event.sequence === 3 ? { ...event, [field]: value } : event));
    expect(verify(events)).toMatch(/\b3\b/);
  });

  it('shows a removed event, also the first', () => {
    expect(verify(chain(5).filter((event) => event.sequence !== 3))).toBe(
      'event 3 is missing (the next one is 4)',
    );
    expect(verify(chain(5).slice(1))).toBe('event 1 is missing (the next one is 2)');
  });

  it('shows any other order', () => {
    const events = chain(6);
    fc.assert(
      fc.property(fc.shuffledSubarray(events, { minLength: 6 }), (shuffled) => {
        const sorted = shuffled.every((event, index) => event.sequence === index + 1);
        expect(verify(shuffled) === null).toBe(sorted);
      }),
    );
  });

  it('shows a log that was written anew from some event on, once its head is known', () => {
    const events = chain(5);
    const forged = { ...events[2]!, target: 'lic_x' };
    forged.hash = auditHash(forged.previousHash, forged);
    expect(verify([...events.slice(0, 2), forged, ...events.slice(3)])).toBe(
      'event 4 does not follow event 3',
    );
  });

  it('shows a time that goes back', () => {
    const [first, second] = chain(2);
    const late = { ...first!, timeMs: 5000 };
    late.hash = auditHash(late.previousHash, late);
    const next = { ...second!, previousHash: late.hash };
    next.hash = auditHash(next.previousHash, next);
    expect(verify([late, next])).toBe('event 2 is older than the event before it');
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { MAX_SYSLOG_MESSAGE_BYTES, syslogFrame } from '../../keyserver/audit/export/syslog-message.ts';
import { readFrames } from '../fakes/syslog-receiver.ts';

const EVENT: AuditEvent = {
  sequence: 7,
  organizationId: 'org_1',
  timeMs: 1_795_328_511_600,
  actor: 'token:token_1',
  action: 'license.revoke',
  target: 'lic_1',
  outcome: 'done',
  code: null,
  detail: { epoch: 3 },
  previousHash: '0'.repeat(64),
  hash: 'ab'.repeat(32),
};

describe('an audit event as a syslog message', () => {
  it('is RFC 5424 with the event in structured data and as JSON', () => {
    const frame = syslogFrame(EVENT, 'keys.acme.example').toString();
    expect(frame).toMatch(
      /^\d+ <109>1 2026-11-22T\d\d:\d\d:51\.600Z keys\.acme\.example latchkey - license\.revoke \[meta sequenceId="7"\]\[latchkey@32473 sequence="7" /u,
    );
    const [message] = readFrames(Buffer.from(frame));
    expect(message?.data['latchkey@32473']).toEqual({
      sequence: '7',
      organizationId: 'org_1',
      actor: 'token:token_1',
      action: 'license.revoke',
      target: 'lic_1',
      outcome: 'done',
      hash: EVENT.hash,
    });
    expect(JSON.parse(message?.text ?? '')).toEqual(EVENT);
  });

  it('warns of a denial and has its code', () => {
    const denied = { ...EVENT, outcome: 'denied', code: 'DENIED_LICENSE_REVOKED' };
    const [message] = readFrames(syslogFrame(denied, ''));
    expect(message?.priority).toBe(13 * 8 + 4);
    expect(message?.data['latchkey@32473']).toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
  });

  it('that receivers would cut leaves out the detail and says so', () => {
    const long = { ...EVENT, detail: { images: ['x'.repeat(MAX_SYSLOG_MESSAGE_BYTES)] } };
    const frame = syslogFrame(long, 'host');
    expect(frame.length).toBeLessThan(MAX_SYSLOG_MESSAGE_BYTES);
    const [message] = readFrames(frame);
    expect(message?.data['latchkey@32473']).toMatchObject({ detail: 'omitted', hash: EVENT.hash });
    expect(JSON.parse(message?.text ?? '')).toEqual({ ...EVENT, detail: {} });
  });

  it('starts its numbers anew where RFC 5424 says', () => {
    const idOf = (sequence: number) =>
      readFrames(syslogFrame({ ...EVENT, sequence }, 'host'))[0]?.data['meta']?.['sequenceId'];
    expect([1, 2_147_483_647, 2_147_483_648].map(idOf)).toEqual(['1', '2147483647', '1']);
  });

  it('is one message whatever a node has put into it', () => {
    const text = fc.string({ unit: 'binary', maxLength: 200 });
    fc.assert(
      fc.property(text, text, text, text, (actor, action, target, hostname) => {
        const [message, ...more] = readFrames(syslogFrame({ ...EVENT, actor, action, target }, hostname));
        expect(more).toEqual([]);
        expect(message?.data['latchkey@32473']?.['target']).toBe(
          target.replaceAll(/[\p{Cc}\u2028\u2029]/gu, '?'),
        );
        expect(JSON.parse(message?.text ?? '')).toEqual({ ...EVENT, actor, action, target });
      }),
    );
  });
});

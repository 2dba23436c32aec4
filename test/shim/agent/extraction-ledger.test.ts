import { beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { ExtractionLedger } from '../../../shim/agent/extraction-ledger.ts';
import { fakeLayer, gateRecord } from '../../fakes/scripted-gate.ts';

const { identity } = fakeLayer('app', 'encrypted');
const gate = gateRecord('app');

let ledger: ExtractionLedger;
beforeEach(() => {
  ledger = new ExtractionLedger();
});

describe('an extraction', () => {
  test('has one key to ask for', () => {
    ledger.open('a', identity);
    expect(ledger.unclaimed()).toMatchObject([{ token: 'a', identity }]);
    expect(ledger.claim('a')).toBe(true);
    expect(ledger.claim('a')).toBe(false);
    expect(ledger.unclaimed()).toEqual([]);
  });

  test('ends as what it came to', () => {
    ledger.open('no-key', fakeLayer('other', 'encrypted').identity);
    ledger.open('unverified', fakeLayer('third', 'encrypted').identity);
    ledger.open('verified', identity);
    ledger.claim('unverified');
    ledger.claim('verified');
    ledger.markVerified('verified', gate);
    expect(ledger.close('no-key')).toEqual({ state: 'no-key' });
    expect(ledger.close('unverified')).toEqual({ state: 'unverified' });
    expect(ledger.close('verified')).toEqual({ state: 'verified', gate });
    expect(ledger.close('verified')).toEqual({ state: 'unknown' });
    expect(ledger.close('never opened')).toEqual({ state: 'unknown' });
  });

  test('that failed says why, before its key was given and after', () => {
    const reason = new LatchkeyError('DENIED_LICENSE_REVOKED', 'revoked');
    ledger.open('refused', identity);
    ledger.markFailed('refused', reason);
    ledger.open('damaged', identity);
    ledger.claim('damaged');
    ledger.markFailed('damaged', reason);
    ledger.markFailed('never opened', reason);
    expect(ledger.close('refused')).toEqual({ state: 'unverified', reason });
    expect(ledger.close('damaged')).toEqual({ state: 'unverified', reason });
    expect(ledger.close('never opened')).toEqual({ state: 'unknown' });
  });

  test('is not verified without a claim, nor after its end', () => {
    ledger.open('a', identity);
    ledger.markVerified('a', gate);
    expect(ledger.close('a')).toEqual({ state: 'no-key' });
    ledger.markVerified('a', gate);
    expect(ledger.claim('a')).toBe(false);
    expect(ledger.close('a')).toEqual({ state: 'unknown' });
  });

  test('opened anew has its key again, and nothing of what was before', () => {
    ledger.open('a', identity);
    ledger.claim('a');
    ledger.markVerified('a', gate);
    ledger.open('a', identity);
    expect(ledger.unclaimed()).toHaveLength(1);
    expect(ledger.close('a')).toEqual({ state: 'no-key' });
  });

  test('of the same content is secret when another one got the key: it may have got the content', () => {
    ledger.open('a', identity);
    ledger.open('b', identity);
    ledger.claim('b');
    ledger.markVerified('b', gate);
    expect(ledger.close('a')).toEqual({ state: 'verified', gate });
    expect(ledger.close('b')).toEqual({ state: 'verified', gate });
  });

  test('is contested while somebody unpacks the same content who may not have the key', () => {
    ledger.open('a', identity);
    expect(ledger.isContested(identity.layer.diffId, gate)).toBe(false);
    ledger.open('tenant', { ...identity, encryptedIn: [gateRecord('tenant')] });
    expect(ledger.isContested(identity.layer.diffId, gate)).toBe(true);
    ledger.close('tenant');
    ledger.open('plain', { ...identity, encryptedIn: [] });
    expect(ledger.isContested(identity.layer.diffId, gate)).toBe(true);
    ledger.close('plain');
    expect(ledger.isContested(identity.layer.diffId, gate)).toBe(false);
  });

  test('stands for itself: claims do not touch others', () => {
    ledger.open('a', identity);
    ledger.open('b', identity);
    ledger.claim('a');
    expect(ledger.unclaimed().map(({ token }) => token)).toEqual(['b']);
  });
});

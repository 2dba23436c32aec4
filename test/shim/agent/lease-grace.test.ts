import { expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { LEASE_DURATION_MS, LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';

test('a lease says when its license is past its end and in its grace', async () => {
  const clock = manualClock();
  const issuer = new LeaseIssuer(clock);
  issuer.terms = { grace: { fromMs: clock.wallMs + 1000, untilMs: clock.wallMs + LEASE_DURATION_MS } };
  const keeper = new LeaseKeeper(clock, { onEnded: () => undefined });
  keeper.setAuthority(issuer.authority());
  const lease = await keeper.require({ imageDigest: digestOf('an image'), imageKeyId: 'key-1' }, undefined);
  expect(keeper.stateOf(lease)).toBe('VALID');
  clock.advance(1000);
  expect(keeper.stateOf(lease)).toBe('GRACE');
  expect(keeper.isGood(lease)).toBe(true);
  clock.advance(LEASE_DURATION_MS - 1000);
  expect(keeper.stateOf(lease)).toBe('EXPIRED');
});

test('a lease counts longer where the key server cannot be reached, but not against its word', async () => {
  const clock = manualClock();
  const issuer = new LeaseIssuer(clock);
  const graceUntilMs = clock.wallMs + LEASE_DURATION_MS + 5000;
  issuer.terms = { connectivityGraceUntilMs: graceUntilMs };
  let isCutOff = true;
  const keeper = new LeaseKeeper(clock, { onEnded: () => undefined }, () => isCutOff);
  keeper.setAuthority(issuer.authority());
  const lease = await keeper.require({ imageDigest: digestOf('an image'), imageKeyId: 'key-1' }, undefined);
  clock.advance(LEASE_DURATION_MS + 4999);
  expect(keeper.isGood(lease)).toBe(true);
  isCutOff = false;
  expect(keeper.isGood(lease)).toBe(false);
  isCutOff = true;
  keeper.sweepExpired();
  expect(keeper.all()).toEqual([lease]);
  clock.advance(1);
  expect(keeper.isGood(lease)).toBe(false);
  const again = await keeper.require({ imageDigest: digestOf('an image'), imageKeyId: 'key-1' }, undefined);
  const denial = {
    code: 'DENIED_LICENSE_REVOKED',
    message: 'revoked',
    licenseId: again.claims.licenseId,
    contact: '',
  };
  const { licenseId, epoch } = again.claims;
  await keeper.applyChange({ licenseId, epoch: epoch + 1, state: 'REVOKED', denial }, 100);
  expect(keeper.isGood(again)).toBe(false);
});

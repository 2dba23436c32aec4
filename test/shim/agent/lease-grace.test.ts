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

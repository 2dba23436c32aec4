import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LEASES_PER_RENEWAL } from '#src/base/limits.ts';
import { digestOf } from '#src/oci/digest.ts';
import type { HeldLease } from '../../../shim/agent/held-lease.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { LeaseRenewal } from '../../../shim/agent/lease-renewal.ts';
import { ANY_IMAGE } from '../../../shim/agent/lease.ts';
import { LEASE_DURATION_MS, LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { type ManualClock, manualClock } from '../../fakes/manual-clock.ts';

const AWAY = new LatchkeyError('NET_UNREACHABLE', 'key server is unreachable');

let clock: ManualClock;
let issuer: LeaseIssuer;
let keeper: LeaseKeeper;
let renewal: LeaseRenewal;
let endings: string[];
let failures: unknown[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  clock = manualClock();
  issuer = new LeaseIssuer(clock);
  endings = [];
  failures = [];
  keeper = new LeaseKeeper(clock, { onEnded: (_lease, { code }) => endings.push(code) });
  const authority = issuer.authority();
  keeper.setAuthority(authority);
  renewal = new LeaseRenewal(keeper, clock, (error) => failures.push(error));
  renewal.start(authority.keyServer);
});
afterEach(() => {
  renewal.stop();
  vi.useRealTimers();
});

async function lease(name = 'an image'): Promise<HeldLease> {
  const subject = { imageDigest: digestOf(name), imageKeyId: 'key-1' };
  const held = await keeper.require(subject, undefined);
  issuer.subjects.set(held.claims.leaseId, subject);
  return held;
}

/** Lets time pass and the timer strike, and waits for what it set off. */
async function pass(durationMs: number): Promise<void> {
  clock.advance(durationMs);
  vi.advanceTimersByTime(1000);
  await issuer.settled();
}

describe('leases', () => {
  test('are left alone until it is time', async () => {
    await lease();
    await pass(LEASE_DURATION_MS / 3 - 1);
    expect(issuer.renewed).toBe(0);
  });

  test('of key provider calls are not prolonged: they lapse, and the next call asks anew', async () => {
    const subject = { imageDigest: ANY_IMAGE, imageKeyId: 'key-1' } as const;
    const held = await keeper.require(subject, undefined);
    await pass(LEASE_DURATION_MS / 2);
    expect(issuer.renewed).toBe(0);
    expect(keeper.isGood(held)).toBe(true);
    await pass(LEASE_DURATION_MS);
    expect(held.imageKey.every((byte) => byte === 0)).toBe(true);
    await keeper.require(subject, undefined);
    expect(issuer.acquired).toBe(2);
  });

  test('are prolonged again and again', async () => {
    const held = await lease();
    for (let round = 0; round < 10; round += 1) await pass(LEASE_DURATION_MS / 2);
    expect(keeper.isGood(held)).toBe(true);
    expect(issuer.acquired).toBe(1);
    expect(endings).toEqual([]);
  });

  test('that the key server refuses end with its reason', async () => {
    const held = await lease();
    issuer.refusal = new LatchkeyError('DENIED_LICENSE_SUSPENDED', 'suspended');
    await pass(LEASE_DURATION_MS / 2);
    expect(held.denial).toMatchObject({ code: 'DENIED_LICENSE_SUSPENDED', licenseId: 'lic-1' });
    expect(endings).toEqual(['DENIED_LICENSE_SUSPENDED']);
  });

  test('live to their end while the key server is away, and end once', async () => {
    const held = await lease();
    issuer.refusal = AWAY;
    await pass(LEASE_DURATION_MS / 2);
    expect(failures).toEqual([AWAY]);
    expect(keeper.isGood(held)).toBe(true);
    await pass(LEASE_DURATION_MS / 2);
    await pass(LEASE_DURATION_MS);
    expect(endings).toEqual(['DENIED_LEASE_EXPIRED']);
    expect(keeper.all()).toEqual([]);
  });

  test('are tried again after a pause, not at every stroke', async () => {
    await lease();
    issuer.refusal = AWAY;
    await pass(LEASE_DURATION_MS / 3);
    for (let stroke = 0; stroke < 3; stroke += 1) await pass(100);
    expect(issuer.renewed).toBe(1);
    issuer.refusal = undefined;
    await pass(2000);
    await pass(100);
    expect(issuer.renewed).toBe(2);
  });

  test('that are many are prolonged all, a batch at a time', async () => {
    const count = MAX_LEASES_PER_RENEWAL + 10;
    for (let index = 0; index < count; index += 1) await lease(`image ${index}`);
    await pass(LEASE_DURATION_MS / 3);
    await pass(0);
    await pass(0);
    expect(issuer.renewed).toBe(2);
    const renewAtMs = clock.wallMs + LEASE_DURATION_MS / 3;
    expect(keeper.all().map(({ claims }) => claims.renewAtMs)).toEqual(Array(count).fill(renewAtMs));
  });

  test('are prolonged beside one for which the key server answers nonsense', async () => {
    const [odd, held] = [await lease('odd'), await lease()];
    issuer.subjects.set(odd.claims.leaseId, { imageDigest: digestOf('another image'), imageKeyId: 'key-1' });
    const before = held.claims.expiresAtMs;
    await pass(LEASE_DURATION_MS / 2);
    expect(held.claims.expiresAtMs).toBeGreaterThan(before);
    expect(odd.claims.expiresAtMs).toBe(before);
    expect(failures).toMatchObject([{ code: 'DENIED_LEASE_INVALID' }]);
    expect(keeper.isGood(odd)).toBe(true);
  });

  test('are prolonged by a key server of before there were leases that share a signature', async () => {
    issuer.isOld = true;
    const [held, other] = [await lease(), await lease('another')];
    const before = held.claims.expiresAtMs;
    await pass(LEASE_DURATION_MS / 2);
    for (const { claims } of [held, other]) expect(claims.expiresAtMs).toBeGreaterThan(before);
    expect(failures).toEqual([]);
  });

  test.each([
    ['beyond its end', (place: number) => place + 7],
    ['of another lease', (place: number) => 1 - place],
  ])('are not prolonged by a place in the list %s', async (_case, placeInList) => {
    const [held, other] = [await lease(), await lease('another')];
    const before = held.claims.expiresAtMs;
    issuer.placeInList = placeInList;
    await pass(LEASE_DURATION_MS / 2);
    for (const { claims } of [held, other]) expect(claims.expiresAtMs).toBe(before);
    expect(failures).toMatchObject([{ code: 'DENIED_LEASE_INVALID' }]);
  });

  test('are not prolonged after the end of the agent', async () => {
    await lease();
    renewal.stop();
    await pass(LEASE_DURATION_MS / 2);
    expect(issuer.renewed).toBe(0);
  });
});

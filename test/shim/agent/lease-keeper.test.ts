import { beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { digestOf } from '#src/oci/digest.ts';
import type { LicenseChange } from '#src/wire/generated/latchkey/node.ts';
import { fromDenial } from '../../../shim/agent/lease-denial.ts';
import type { HeldLease } from '../../../shim/agent/held-lease.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { LEASE_DURATION_MS, LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { type ManualClock, manualClock } from '../../fakes/manual-clock.ts';

const subject = { imageDigest: digestOf('an image'), imageKeyId: 'key-1' };
const other = { imageDigest: digestOf('another image'), imageKeyId: 'key-2' };
const AWAY = new LatchkeyError('NET_UNREACHABLE', 'key server is unreachable');
/** Of the scripted issuer's leases is 1. */
const REVISION = 2;
const REVOKED = {
  code: 'DENIED_LICENSE_REVOKED',
  message: 'revoked',
  licenseId: 'lic-1',
  contact: 'ask@acme',
};

let clock: ManualClock;
let issuer: LeaseIssuer;
let keeper: LeaseKeeper;
let ended: { lease: HeldLease; reason: LatchkeyError }[];

beforeEach(() => {
  clock = manualClock();
  issuer = new LeaseIssuer(clock);
  issuer.imageKeys.set('key-1', Buffer.alloc(32, 7));
  ended = [];
  keeper = new LeaseKeeper(clock, { onEnded: (lease, reason) => ended.push({ lease, reason }) });
  keeper.setAuthority(issuer.authority());
});

function change(epoch: number, denial?: typeof REVOKED): LicenseChange {
  return { licenseId: 'lic-1', epoch, state: denial === undefined ? 'ACTIVE' : 'REVOKED', denial };
}

function require(of = subject, contact?: string): Promise<HeldLease> {
  return keeper.require(of, contact);
}

describe('a good lease', () => {
  test('is asked for once and then held', async () => {
    const lease = await require();
    expect(await require()).toBe(lease);
    expect(issuer.acquired).toBe(1);
    expect(lease.imageKey).toEqual(Buffer.alloc(32, 7));
    expect(keeper.isGood(lease)).toBe(true);
  });

  test('is asked for once however many starts wait', async () => {
    const leases = await Promise.all(Array.from({ length: 20 }, () => require()));
    expect(new Set(leases).size).toBe(1);
    expect(issuer.acquired).toBe(1);
    await require(other);
    expect(issuer.acquired).toBe(2);
  });

  test('serves starts while the key server is away, to its end and no further', async () => {
    await require();
    issuer.refusal = AWAY;
    clock.advance(LEASE_DURATION_MS - 1);
    await require();
    clock.advance(1);
    await expect(require()).rejects.toMatchObject({
      code: 'DENIED_LEASE_EXPIRED',
      message: 'lease expired (key server unreachable)',
      licenseId: 'lic-1',
      contact: 'license@acme.example',
    });
  });

  test('does not live longer when the wall clock is turned back', async () => {
    await require();
    issuer.refusal = AWAY;
    clock.wallMs -= 10 * LEASE_DURATION_MS;
    await require();
    clock.steadyMs += LEASE_DURATION_MS;
    await expect(require()).rejects.toMatchObject({ code: 'DENIED_LEASE_EXPIRED' });
  });

  test('ends early when the wall clock is far ahead: no is the safe answer', async () => {
    const lease = await require();
    clock.wallMs += LEASE_DURATION_MS;
    expect(keeper.isGood(lease)).toBe(false);
  });

  test('is asked for again after its end', async () => {
    const first = await require();
    clock.advance(LEASE_DURATION_MS);
    const second = await require();
    expect(second).not.toBe(first);
    expect(keeper.isGood(second)).toBe(true);
  });
});

describe('no lease', () => {
  test('before the node is activated: what to do, and whom to ask', async () => {
    const fresh = new LeaseKeeper(clock, { onEnded: () => undefined });
    await expect(fresh.require(subject, 'ask@acme')).rejects.toMatchObject({
      code: 'DENIED_NODE_NOT_ACTIVATED',
      contact: 'ask@acme',
      hint: expect.stringContaining('latchkey node activate') as string,
    });
  });

  test('from a key server that says no: its own words', async () => {
    issuer.refusal = new LatchkeyError('DENIED_NODE_LIMIT', 'three nodes are in use', { licenseId: 'lic-1' });
    await expect(require(subject, 'ask@acme')).rejects.toMatchObject({
      code: 'DENIED_NODE_LIMIT',
      message: 'three nodes are in use',
      licenseId: 'lic-1',
      contact: 'ask@acme',
    });
    expect(keeper.all()).toEqual([]);
  });

  test.each([
    [AWAY, 'no lease (key server unreachable)'],
    [new LatchkeyError('NET_TIMEOUT', 'no answer'), 'no lease (key server unreachable)'],
    [
      new LatchkeyError('AUTH_FORBIDDEN', 'the certificate is not known'),
      'no lease (the certificate is not known)',
    ],
    [new TypeError('a defect'), 'no lease (a defect)'],
  ])('because of %s', async (failure, message) => {
    issuer.refusal = failure as LatchkeyError;
    await expect(require()).rejects.toMatchObject({ code: 'DENIED_LEASE_EXPIRED', message });
  });

  test('when the answer is not for us', async () => {
    issuer.terms = { nodeId: 'node-2' };
    await expect(require()).rejects.toMatchObject({ code: 'DENIED_LEASE_INVALID' });
    issuer.terms = { imageDigest: other.imageDigest };
    await expect(require()).rejects.toMatchObject({ code: 'DENIED_LEASE_INVALID' });
    expect(keeper.all()).toEqual([]);
  });

  test('after a failure the next start asks again', async () => {
    issuer.refusal = AWAY;
    await expect(require()).rejects.toMatchObject({ code: 'DENIED_LEASE_EXPIRED' });
    issuer.refusal = undefined;
    expect(keeper.isGood(await require())).toBe(true);
  });
});

describe('a revocation', () => {
  test('voids the lease, wipes its key and tells once', async () => {
    const lease = await require();
    await keeper.applyChange(change(2, REVOKED), REVISION);
    expect(keeper.isGood(lease)).toBe(false);
    expect(lease.imageKey).toEqual(Buffer.alloc(32));
    await keeper.applyChange(change(3, REVOKED), REVISION);
    expect(ended.map(({ reason }) => reason.line)).toEqual([
      'DENIED_LICENSE_REVOKED: revoked; license lic-1; contact: ask@acme',
    ]);
  });

  test('is what the next starts are told, also while the key server is away', async () => {
    await require();
    await keeper.applyChange(change(2, REVOKED), REVISION);
    issuer.refusal = AWAY;
    await expect(require()).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
  });

  test('of another license, or older than the lease, changes nothing', async () => {
    issuer.terms = { epoch: 5 };
    const lease = await require();
    await keeper.applyChange({ ...change(9, REVOKED), licenseId: 'lic-2' }, REVISION);
    await keeper.applyChange(change(4, REVOKED), REVISION);
    expect(keeper.isGood(lease)).toBe(true);
    expect(ended).toEqual([]);
  });

  test('without a new epoch, as a ban of the node is, voids the lease all the same', async () => {
    issuer.terms = { epoch: 5 };
    const lease = await require();
    await keeper.applyChange(change(5, REVOKED), REVISION);
    expect(keeper.isGood(lease)).toBe(false);
  });

  test('that overtakes a lease on its way voids that too', async () => {
    issuer.onTheWay = () => keeper.applyChange(change(2, REVOKED), REVISION);
    await expect(require()).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED', licenseId: 'lic-1' });
    expect(keeper.all().filter((lease) => keeper.isGood(lease))).toEqual([]);
    expect(keeper.all().every(({ imageKey }) => imageKey.equals(Buffer.alloc(32)))).toBe(true);
  });

  test('without a new epoch that overtakes a lease on its way voids that too', async () => {
    issuer.terms = { epoch: 5 };
    issuer.onTheWay = () => keeper.applyChange(change(5, REVOKED), REVISION);
    await expect(require()).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
  });

  test('does not void a lease that the key server cut after it', async () => {
    issuer.terms = { epoch: 5, revision: REVISION + 1 };
    issuer.onTheWay = () => keeper.applyChange(change(4, REVOKED), REVISION);
    expect(keeper.isGood(await require())).toBe(true);
  });

  test('of the whole node ends every lease', async () => {
    const leases = [await require(), await require(other)];
    keeper.endAll(new LatchkeyError('DENIED_NODE_BANNED', 'banned'));
    expect(leases.some((lease) => keeper.isGood(lease))).toBe(false);
  });

  test('is over when the license is given again, under a newer epoch', async () => {
    await require();
    await keeper.applyChange(change(2, REVOKED), REVISION);
    issuer.terms = { epoch: 3 };
    await keeper.applyChange(change(3), REVISION);
    const asked = issuer.acquired;
    expect(keeper.isGood(await require())).toBe(true);
    expect(issuer.acquired).toBe(asked);
  });

  test('is forgotten by an activation under another license', async () => {
    await require();
    await keeper.applyChange(change(2, REVOKED), REVISION);
    keeper.setAuthority(issuer.authority());
    issuer.terms = { licenseId: 'lic-2' };
    expect((await require()).claims.licenseId).toBe('lic-2');
  });

  test('of new terms wipes the old key and asks again at once', async () => {
    const lease = await require();
    issuer.terms = { epoch: 2 };
    await keeper.applyChange(change(2), REVISION);
    expect(lease.imageKey).toEqual(Buffer.alloc(32));
    expect(issuer.acquired).toBe(2);
    expect((await require()).claims.epoch).toBe(2);
    expect(ended).toEqual([]);
  });
});

describe('the end of its time', () => {
  test('is told once; the key is wiped, and a start later is told which license it was', async () => {
    const lease = await require();
    keeper.sweepExpired();
    expect(ended).toEqual([]);
    clock.advance(LEASE_DURATION_MS);
    keeper.sweepExpired();
    keeper.sweepExpired();
    expect(ended.map(({ reason }) => reason.code)).toEqual(['DENIED_LEASE_EXPIRED']);
    expect(lease.imageKey).toEqual(Buffer.alloc(32));
    issuer.refusal = AWAY;
    await expect(require()).rejects.toMatchObject({
      message: 'lease expired (key server unreachable)',
      licenseId: 'lic-1',
    });
  });
});

describe('a renewal', () => {
  test('prolongs the lease from the time the server said', async () => {
    const lease = await require();
    clock.advance(LEASE_DURATION_MS / 2);
    const token = await issuer.sign(issuer.claims(subject));
    await keeper.renewed(lease, token, clock.wallMs);
    clock.advance(LEASE_DURATION_MS - 1);
    expect(keeper.isGood(lease)).toBe(true);
    // The receipt that the node shows is the newest one.
    expect(lease.token).toBe(token);
  });

  test('does not bring a revoked lease back', async () => {
    const lease = await require();
    const token = await issuer.sign(issuer.claims(subject));
    const renewing = keeper.renewed(lease, token, clock.wallMs);
    await keeper.applyChange(change(2, REVOKED), REVISION);
    await renewing;
    await keeper.renewed(lease, token, clock.wallMs);
    expect(keeper.isGood(lease)).toBe(false);
  });

  test('for another image is refused, and the lease stays what it was', async () => {
    const lease = await require();
    const { claims } = lease;
    const token = await issuer.sign({ ...issuer.claims(other), expiresAtMs: clock.wallMs * 2 });
    await expect(keeper.renewed(lease, token, clock.wallMs)).rejects.toMatchObject({
      code: 'DENIED_LEASE_INVALID',
    });
    expect(lease.claims).toBe(claims);
  });
});

test('a denial of a kind we do not know is a denial all the same', () => {
  expect(fromDenial({ ...REVOKED, code: 'DENIED_NEW_REASON', licenseId: '', contact: '' })).toMatchObject({
    code: 'DENIED_LEASE_INVALID',
    message: 'revoked',
    licenseId: undefined,
    contact: undefined,
  });
});

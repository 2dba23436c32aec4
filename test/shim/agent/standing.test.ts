import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { digestOf } from '#src/oci/digest.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { LicensedImages } from '../../../shim/agent/licensed-images.ts';
import { RefusedLicenses } from '../../../shim/agent/refused-licenses.ts';
import { Standings } from '../../../shim/agent/standing.ts';
import { LEASE_DURATION_MS, LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { type ManualClock, manualClock } from '../../fakes/manual-clock.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const subject = { imageDigest: digestOf('an image'), imageKeyId: 'key-1' };
const REVOKED = new LatchkeyError('DENIED_LICENSE_REVOKED', 'revoked', { licenseId: 'lic-1' });
const BANNED = new LatchkeyError('DENIED_NODE_BANNED', 'banned');
const YANKED = new LatchkeyError('DENIED_IMAGE_YANKED', 'withdrawn', { licenseId: 'lic-1' });
const SKEW = new LatchkeyError('DENIED_CLOCK_SKEW', 'the clock is off', { licenseId: 'lic-1' });

let clock: ManualClock;
let issuer: LeaseIssuer;
let leases: LeaseKeeper;
let images: LicensedImages;
let refused: RefusedLicenses;
let standings: Standings;

function start(): void {
  images = new LicensedImages(join(directory(), 'images.json'));
  leases = new LeaseKeeper(clock, {
    onEnded: () => undefined,
    onGranted: ({ claims }) => {
      images.record(claims);
    },
  });
  leases.setAuthority(issuer.authority());
  refused = new RefusedLicenses(clock);
  standings = new Standings({ leases, images, refused });
}

beforeEach(() => {
  clock = manualClock();
  issuer = new LeaseIssuer(clock);
  issuer.terms = { onRevoke: 'stop' };
  start();
});

async function endLease(): Promise<void> {
  await leases.require(subject, undefined);
  clock.advance(LEASE_DURATION_MS);
  leases.sweepExpired();
}

describe('an image', () => {
  test('is licensed while its lease is good, whatever was said before', async () => {
    refused.refuse('lic-1', REVOKED, 0);
    await leases.require(subject, undefined);
    expect(standings.ofSubject(subject)).toBe('licensed');
  });

  test('has no lease when its time is up and nobody has said why', async () => {
    await endLease();
    expect(standings.ofSubject(subject)).toBe('no-lease');
    expect(standings.refusalOf(subject)).toBeUndefined();
  });

  test('is refused with its license, as the lease said', async () => {
    const lease = await leases.require(subject, undefined);
    leases.end(lease, REVOKED);
    expect(standings.refusalOf(subject)).toEqual({ licenseId: 'lic-1', denial: REVOKED, onRevoke: 'stop' });
  });

  test('is refused after a restart, when the license is found to be', async () => {
    await leases.require(subject, undefined);
    start();
    expect(standings.ofSubject(subject)).toBe('no-lease');
    refused.refuse('lic-1', REVOKED, 2);
    expect(standings.refusalOf(subject)).toMatchObject({ licenseId: 'lic-1', onRevoke: 'stop' });
  });

  test('is refused with the node, under the license it was allowed by', async () => {
    await endLease();
    refused.refuseNode(BANNED);
    expect(standings.refusalOf(subject)).toMatchObject({ licenseId: 'lic-1', denial: BANNED });
    refused.allow('lic-1');
    expect(standings.refusalOf(subject)).toBeUndefined();
  });

  test.each([YANKED, SKEW])('is only denied for a reason that is not the license: $code', async (denial) => {
    await endLease();
    issuer.refusal = denial;
    await expect(leases.require(subject, undefined)).rejects.toThrow(denial.message);
    expect(standings.ofSubject(subject)).toBe('denied');
    expect(standings.refusalOf(subject)).toBeUndefined();
  });

  test('that is denied and whose license is refused too is refused', async () => {
    await endLease();
    issuer.refusal = YANKED;
    await leases.require(subject, undefined).catch(() => undefined);
    refused.refuse('lic-1', REVOKED, 2);
    expect(standings.ofSubject(subject)).toBe('refused');
  });
});

describe('a refused license', () => {
  test('is news once for each reason and change', () => {
    expect(refused.refuse('lic-1', REVOKED, 1)).toBeDefined();
    expect(refused.refuse('lic-1', REVOKED, 1)).toBeUndefined();
    expect(refused.refuse('lic-1', REVOKED, 0)).toBeUndefined();
    expect(refused.refuse('lic-1', REVOKED, 2)).toMatchObject({ epoch: 2 });
    expect(refused.refuse('lic-1', BANNED, 0)).toMatchObject({ epoch: 2, denial: BANNED });
  });

  test('has been refused since the first time', () => {
    const since = clock.wallMs;
    refused.refuse('lic-1', REVOKED, 1);
    clock.advance(1000);
    expect(refused.refuse('lic-1', BANNED, 1)?.sinceMs).toBe(since);
    refused.allow('lic-1');
    expect(refused.refuse('lic-1', REVOKED, 3)?.sinceMs).toBe(since + 1000);
  });

  test('is not among those that are refused as a whole when only its time has not come', () => {
    refused.refuse('lic-1', new LatchkeyError('DENIED_LICENSE_NOT_STARTED', 'later'), 1);
    expect(refused.all()).toEqual([]);
    expect(refused.denialOf('lic-1')?.code).toBe('DENIED_LICENSE_NOT_STARTED');
  });
});

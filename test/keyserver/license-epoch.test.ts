/** Every change of a license, its policy or its customer makes a new epoch, and voids the leases of the one before. */
import { decodeJwt } from 'jose';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import { TERM_NAMES, type TermName } from '#src/licensing/license-terms.ts';
import type { LicenseUpdate } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

/** A value of each term that is not the default; the node stays licensed under all of them. */
const VALUES = {
  maxNodes: 5,
  maxInstallations: 4,
  maxConcurrent: 4,
  overage: '1.25x',
  leaseDurationMs: 3_600_000,
  renewAfterPercent: 50,
  onRevoke: 'stop',
  versionConstraint: '>=1',
  entitlements: ['sso'],
  durationMs: 86_400_000,
  expirationBasis: 'activation',
  expirationStrategy: 'maintain-access',
  expiryGraceMs: 1000,
  connectivityGraceMs: 1000,
  offlineMaxMs: 3_600_000,
} as const satisfies { [Name in TermName]: LicenseUpdate[Name] };

const OTHER_FIELDS = {
  plan: 'gold',
  contact: 'sales@acme.example',
  startsAtMs: 1000,
  expiresAtMs: Date.now() + 86_400_000,
  maintenanceUntilMs: Date.now() + 86_400_000,
} as const satisfies LicenseUpdate;

let server: TestKeyServer;
let sold: SoldProduct;
let policy: string;
let customer: string;
let id: string;
let node: LicensedNode;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  policy = `policy-${randomBytes(4).toString('hex')}`;
  await sold.client.policies.create({ code: policy, durationMs: 2 * 86_400_000 });
  customer = (await sold.client.createCustomer({ name: policy })).id;
  const { license, licenseKey } = await sold.sell({ customer, policy });
  id = license.id;
  node = await activateNode(server, licenseKey);
});

afterAll(async () => {
  node.close();
  await server.dispose();
});

type Step = readonly [string, () => Promise<unknown>];

/** In this order: the license is in force before each. */
const STEPS: readonly Step[] = [
  ...TERM_NAMES.map((name): Step => [
    `policy: ${name}`,
    () => sold.client.policies.update(policy, { [name]: VALUES[name] }),
  ]),
  ...TERM_NAMES.map((name): Step => [
    `policy: ${name} as it was`,
    () => sold.client.policies.update(policy, { [name]: null }),
  ]),
  ...TERM_NAMES.map((name): Step => [
    `license: ${name}`,
    () => sold.client.updateLicense(id, { [name]: VALUES[name] }),
  ]),
  ...Object.entries(OTHER_FIELDS).map(([name, value]): Step => [
    `license: ${name}`,
    () => sold.client.updateLicense(id, { [name]: value }),
  ]),
  ['license: renew', () => sold.client.renewLicense(id)],
  ['license: no policy', () => sold.client.updateLicense(id, { policy: null })],
  [
    'license: suspend and reinstate',
    async () => {
      await sold.client.changeLicense(id, 'suspend');
      await sold.client.changeLicense(id, 'reinstate');
    },
  ],
  [
    'customer: block and unblock',
    async () => {
      await sold.client.changeCustomer(customer, 'block');
      await sold.client.changeCustomer(customer, 'unblock');
    },
  ],
];

describe('a change', () => {
  it('has a step for every field that can be changed', () => {
    const fields = STEPS.flatMap(([name]) => /^license: (\w+)$/.exec(name)?.[1] ?? []);
    const changeable = [...TERM_NAMES, ...Object.keys(OTHER_FIELDS), 'renew'];
    expect(fields.sort()).toEqual(changeable.sort());
  });

  it.each(STEPS)('%s', async (_name, change) => {
    const { lease } = await node.acquire(sold.image);
    const old = decodeJwt<LeaseClaims>(lease);
    const before = await sold.client.license(id);
    expect(old.epoch).toBe(before.epoch);
    await change();
    const after = await sold.client.license(id);
    expect(after.epoch).toBeGreaterThan(before.epoch);
    expect(after.revision).toBeGreaterThan(before.revision);
    const { results, revision } = await node.renew([old.leaseId]);
    expect(revision).toBeGreaterThanOrEqual(after.revision);
    expect(results[0]?.outcome).toMatchObject({ $case: 'denial', value: { code: 'DENIED_LEASE_INVALID' } });
    expect(decodeJwt<LeaseClaims>((await node.acquire(sold.image)).lease).epoch).toBe(after.epoch);
  });

  it('of a revoked license is refused, whatever it is, and nothing of it is deleted', async () => {
    const { leaseId } = decodeJwt<LeaseClaims>((await node.acquire(sold.image)).lease);
    await sold.client.updateLicense(id, { policy });
    await sold.client.changeLicense(id, 'revoke', 'contract ended');
    const revoked = await sold.client.license(id);
    const refused = [
      ...Object.entries({
        ...VALUES,
        ...OTHER_FIELDS,
        policy: null,
        tags: ['late'],
        metadata: { a: 'b' },
      }).map(([name, value]) => sold.client.updateLicense(id, { [name]: value })),
      sold.client.renewLicense(id),
      sold.client.changeLicense(id, 'suspend'),
      sold.client.changeLicense(id, 'reinstate'),
    ];
    for (const { status, reason } of (await Promise.allSettled(refused)) as PromiseRejectedResult[]) {
      expect(status).toBe('rejected');
      expect(reason).toMatchObject({ code: 'STATE_PRECONDITION' });
    }
    await sold.client.changeLicense(id, 'revoke');
    await sold.client.policies.update(policy, { maxNodes: 77 });
    expect(await sold.client.license(id)).toEqual(revoked);
    expect(revoked).toMatchObject({ state: 'REVOKED', reason: 'contract ended', usedNodes: 1 });
    expect((await sold.client.leases()).some((lease) => lease.id === leaseId)).toBe(true);
  });
});

/** When leases are renewed: a term of policies and licenses. */
import { randomBytes } from 'node:crypto';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DEFAULT_RENEW_AFTER_PERCENT } from '#src/base/limits.ts';
import { HOUR_MS } from '#src/base/units.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { undoMigrations } from '../fakes/old-database.ts';
import { type SoldProduct, adminClient, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

const newCode = () => `renew-${randomBytes(4).toString('hex')}`;

/** Says whether a lease is renewed after this part of its life, give or take the spread. */
function expectRenewal({ issuedAtMs, renewAtMs, expiresAtMs }: LeaseClaims, percent: number): void {
  const part = (100 * (renewAtMs - issuedAtMs)) / (expiresAtMs - issuedAtMs);
  const spread = Math.min(percent, 100 - percent) / 10;
  expect(part).toBeGreaterThan(percent - spread - 0.001);
  expect(part).toBeLessThan(percent + spread + 0.001);
}

const leaseOf = async (node: LicensedNode) => decodeJwt<LeaseClaims>((await node.acquire(sold.image)).lease);

describe('the part of its life after which a lease is renewed', () => {
  test.each([10, 90])('is what a license says: %d %%, in renewed leases too', async (renewAfterPercent) => {
    const { license, licenseKey } = await sold.sell({ renewAfterPercent });
    expect(license.renewAfterPercent).toBe(renewAfterPercent);
    const node = await activateNode(server, licenseKey);
    const lease = await leaseOf(node);
    expectRenewal(lease, renewAfterPercent);
    const { outcome } = (await node.renew([lease.leaseId])).results[0]!;
    if (outcome?.$case !== 'lease') throw new Error('not renewed');
    expectRenewal(await node.claimsOf(outcome.value), renewAfterPercent);
    node.close();
  });

  test('is of the life that the license leaves', async () => {
    const expiresAtMs = Date.now() + HOUR_MS;
    const { licenseKey } = await sold.sell({ renewAfterPercent: 90, expiresAtMs });
    const node = await activateNode(server, licenseKey);
    const lease = await leaseOf(node);
    expect(lease.expiresAtMs).toBe(expiresAtMs);
    expectRenewal(lease, 90);
    node.close();
  });

  test('is given by a policy, and a license has its own', async () => {
    const { client } = sold;
    const code = newCode();
    await client.policies.create({ code, renewAfterPercent: 80 });
    const { license, licenseKey } = await sold.sell({ policy: code });
    expect(license).toMatchObject({ renewAfterPercent: 80, ownTerms: [] });
    const { license: own } = await sold.sell({ policy: code, renewAfterPercent: 20 });
    expect(own).toMatchObject({ renewAfterPercent: 20, ownTerms: ['renewAfterPercent'] });
    const node = await activateNode(server, licenseKey);
    expectRenewal(await leaseOf(node), 80);
    const { epoch } = await client.license(license.id);
    await client.policies.update(code, { renewAfterPercent: 60 });
    expect((await client.license(license.id)).epoch).toBe(epoch + 1);
    expectRenewal(await leaseOf(node), 60);
    expect((await client.license(own.id)).renewAfterPercent).toBe(20);
    await client.updateLicense(license.id, { renewAfterPercent: 10 });
    expectRenewal(await leaseOf(node), 10);
    await client.updateLicense(license.id, { renewAfterPercent: null });
    expectRenewal(await leaseOf(node), 60);
    await client.policies.update(code, { renewAfterPercent: null });
    expectRenewal(await leaseOf(node), DEFAULT_RENEW_AFTER_PERCENT);
    node.close();
  });

  test.each([9, 91, 0, -10, 33.3, 0.5, '50'])('cannot be %s', async (wrong) => {
    const { client } = sold;
    const renewAfterPercent = wrong as number;
    const { license } = await sold.sell({});
    const refused = [
      sold.sell({ renewAfterPercent }),
      client.updateLicense(license.id, { renewAfterPercent }),
      client.policies.create({ code: newCode(), renewAfterPercent }),
    ];
    for (const answer of await Promise.allSettled(refused)) {
      expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'USAGE_INVALID' } });
    }
    expect(await client.license(license.id)).toEqual(license);
  });
});

test('licenses and policies of before it have the default, and own none', async () => {
  const first = await startKeyServer();
  const product = await createSoldProduct(first);
  await product.client.policies.create({ code: 'old' });
  const { license } = await product.sell({ policy: 'old' });
  await first.stop();
  await undoMigrations(first.dataDirectory, '0038-lease-by-node');
  const second = await startKeyServer({ dataDirectory: first.dataDirectory });
  const client = adminClient(second);
  expect(license.renewAfterPercent).toBe(DEFAULT_RENEW_AFTER_PERCENT);
  expect(await client.license(license.id)).toEqual(license);
  expect((await client.policies.show('old')).renewAfterPercent).toBe(DEFAULT_RENEW_AFTER_PERCENT);
  await client.policies.update('old', { renewAfterPercent: 75 });
  expect((await client.license(license.id)).renewAfterPercent).toBe(75);
  await second.dispose();
});

test('the commands sell it, tell it, and say what is wrong', async () => {
  const create = ['license', 'create', '--customer', sold.customerId, '--product', sold.productCode];
  const created = await adminCommand(server, ...create, '--renew-after', '50%');
  const [id] = /lic_[0-9a-f-]+/u.exec(created) ?? [''];
  const show = () => adminCommand(server, 'license', 'show', id);
  const update = (...terms: string[]) => adminCommand(server, 'license', 'update', id, ...terms);
  expect(await show()).toMatch(/^renewal +after 50% of its life$/mu);
  await update('--renew-after', '90');
  expect(await show()).toMatch(/^renewal +after 90% of its life$/mu);
  await update('--inherit', 'renew-after');
  expect(await show()).not.toMatch(/^renewal/mu);
  for (const wrong of ['9%', '91%', '0.5', '33.3%', '-20%', 'half', '50 %']) {
    expect(await update(`--renew-after=${wrong}`)).toMatch(
      /USAGE_INVALID: .*give a whole percentage from 10% to 90%/u,
    );
  }
});

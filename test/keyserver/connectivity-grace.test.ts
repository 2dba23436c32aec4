import { randomBytes } from 'node:crypto';
import { decodeJwt } from 'jose';
import { sql } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MAX_CONNECTIVITY_GRACE_MS } from '#src/base/limits.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { undoMigrations, withDatabase } from '../fakes/old-database.ts';
import { type SoldProduct, adminClient, createSoldProduct } from '../fakes/sold-product.ts';

const HOUR_MS = 3_600_000;

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

async function leaseUnder(terms: Partial<LicenseRequest>) {
  const { license, licenseKey } = await sold.sell(terms);
  const node = await activateNode(server, licenseKey);
  const claims = decodeJwt<LeaseClaims>((await node.acquire(sold.image)).lease);
  const { outcome } = (await node.renew([claims.leaseId])).results[0]!;
  if (outcome?.$case !== 'lease') throw new Error('not renewed');
  const next = await node.claimsOf(outcome.value);
  node.close();
  const [known] = await sold.client.licenseNodes(license.id);
  return { claims, next, canStartUntilMs: known?.canStartUntilMs };
}

test('a lease says how much longer it counts without a line, and so does the list of nodes', async () => {
  const { claims, next, canStartUntilMs } = await leaseUnder({ connectivityGraceMs: 72 * HOUR_MS });
  expect(claims.connectivityGraceUntilMs).toBe(claims.expiresAtMs + 72 * HOUR_MS);
  expect(next.connectivityGraceUntilMs).toBe(next.expiresAtMs + 72 * HOUR_MS);
  expect(canStartUntilMs).toBe(next.connectivityGraceUntilMs);
});

test('it ends with the license, and there is none unless it is sold', async () => {
  const expiresAtMs = Date.now() + 25 * HOUR_MS;
  const { claims } = await leaseUnder({ connectivityGraceMs: 72 * HOUR_MS, expiresAtMs });
  expect(claims.connectivityGraceUntilMs).toBe(expiresAtMs);
  const short = await leaseUnder({ connectivityGraceMs: 72 * HOUR_MS, expiresAtMs: Date.now() + HOUR_MS });
  expect(short.claims.connectivityGraceUntilMs).toBeUndefined();
  const without = await leaseUnder({});
  expect(without.claims.connectivityGraceUntilMs).toBeUndefined();
});

test('a policy gives it, a license has its own, and both can be changed', async () => {
  const { client } = sold;
  const code = `grace-${randomBytes(4).toString('hex')}`;
  await client.policies.create({ code, connectivityGraceMs: 72 * HOUR_MS });
  const { license, licenseKey } = await sold.sell({ policy: code });
  expect(license).toMatchObject({ connectivityGraceMs: 72 * HOUR_MS, ownTerms: [] });
  const { license: own } = await sold.sell({ policy: code, connectivityGraceMs: 0 });
  expect(own).toMatchObject({ connectivityGraceMs: 0, ownTerms: ['connectivityGraceMs'] });
  const node = await activateNode(server, licenseKey);
  const graceOfLease = async () => {
    const { connectivityGraceUntilMs, expiresAtMs } = decodeJwt<LeaseClaims>(
      (await node.acquire(sold.image)).lease,
    );
    return connectivityGraceUntilMs === undefined ? undefined : connectivityGraceUntilMs - expiresAtMs;
  };
  expect(await graceOfLease()).toBe(72 * HOUR_MS);
  await client.policies.update(code, { connectivityGraceMs: HOUR_MS });
  expect(await graceOfLease()).toBe(HOUR_MS);
  expect((await client.license(own.id)).connectivityGraceMs).toBe(0);
  await client.updateLicense(license.id, { connectivityGraceMs: 2 * HOUR_MS });
  expect(await graceOfLease()).toBe(2 * HOUR_MS);
  const update = ['license', 'update', license.id];
  await adminCommand(server, ...update, '--inherit', 'connectivity-grace');
  expect(await graceOfLease()).toBe(HOUR_MS);
  await adminCommand(server, ...update, '--connectivity-grace', '0s');
  expect(await graceOfLease()).toBeUndefined();
  expect(await adminCommand(server, 'policy', 'show', code)).toMatch(/connectivity +grace of 1h/u);
  await expect(
    client.policies.update(code, { connectivityGraceMs: MAX_CONNECTIVITY_GRACE_MS + 1 }),
  ).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  node.close();
});

test("what was sold before policies could give it is the license's own", async () => {
  const first = await startKeyServer();
  const product = await createSoldProduct(first);
  const sell = async (terms: Partial<LicenseRequest>) => (await product.sell(terms)).license.id;
  const [plain, graced, both] = [
    await sell({}),
    await sell({ connectivityGraceMs: HOUR_MS }),
    await sell({ connectivityGraceMs: HOUR_MS, maxNodes: 2 }),
  ];
  await first.stop();
  await undoMigrations(first.dataDirectory, '0036-license-labels');
  await withDatabase(first.dataDirectory, async (database) => {
    await sql`update license set own_terms = null where id in (${plain}, ${graced})`.execute(database);
    await sql`update license set connectivity_grace_ms = null where id = ${plain}`.execute(database);
    await sql`update license set own_terms = 'maxNodes' where id = ${both}`.execute(database);
  });
  const second = await startKeyServer({ dataDirectory: first.dataDirectory });
  const client = adminClient(second);
  expect(await client.license(plain)).toMatchObject({ connectivityGraceMs: 0, ownTerms: [] });
  const ownTerms = ['connectivityGraceMs'];
  expect(await client.license(graced)).toMatchObject({ connectivityGraceMs: HOUR_MS, ownTerms });
  expect((await client.license(both)).ownTerms).toEqual([...ownTerms, 'maxNodes']);
  await client.policies.create({ code: 'later', connectivityGraceMs: 5 * HOUR_MS });
  const graceUnder = async (id: string) =>
    (await client.updateLicense(id, { policy: 'later' })).connectivityGraceMs;
  expect([await graceUnder(plain), await graceUnder(graced)]).toEqual([5 * HOUR_MS, HOUR_MS]);
  await second.dispose();
});

test('`license create` sells it, and `license show` tells it', async () => {
  const create = ['license', 'create', '--customer', sold.customerId, '--product', sold.productCode];
  const created = await adminCommand(server, ...create, '--connectivity-grace', '72h');
  const [id] = /lic_[0-9a-f-]+/u.exec(created) ?? [''];
  expect(await adminCommand(server, 'license', 'show', id)).toMatch(/connectivity +grace of 3d/u);
  expect(await adminCommand(server, ...create, '--connectivity-grace', '31d')).toMatch(
    /USAGE_INVALID: .*give a span up to 30d/u,
  );
});

import { decodeJwt } from 'jose';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

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
  const renewed = await node.renew([claims.leaseId]);
  node.close();
  const [known] = await sold.client.licenseNodes(license.id);
  return { claims, renewed: renewed.results[0]!, canStartUntilMs: known?.canStartUntilMs };
}

test('a lease says how much longer it counts without a line, and so does the list of nodes', async () => {
  const { claims, renewed, canStartUntilMs } = await leaseUnder({ connectivityGraceMs: 72 * HOUR_MS });
  expect(claims.connectivityGraceUntilMs).toBe(claims.expiresAtMs + 72 * HOUR_MS);
  if (renewed.outcome?.$case !== 'lease') throw new Error('not renewed');
  const next = decodeJwt<LeaseClaims>(renewed.outcome.value);
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

test('`license create` sells it, and `license show` tells it', async () => {
  const create = ['license', 'create', '--customer', sold.customerId, '--product', sold.productCode];
  const created = await adminCommand(server, ...create, '--connectivity-grace', '72h');
  const [id] = /lic_[0-9a-f-]+/u.exec(created) ?? [''];
  expect(await adminCommand(server, 'license', 'show', id)).toMatch(/connectivity +grace of 3d/u);
  expect(await adminCommand(server, ...create, '--connectivity-grace', '31d')).toMatch(
    /USAGE_INVALID: .*give a span up to 30d/u,
  );
});

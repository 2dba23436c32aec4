import { afterAll, beforeAll, expect, it } from 'vitest';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

const HOUR_MS = 3_600_000;
let server: TestKeyServer;
let sold: SoldProduct;
const nodes: LicensedNode[] = [];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});
afterAll(async () => {
  for (const node of nodes) node.close();
  await server.dispose();
});

async function licensedNode(terms: Parameters<SoldProduct['sell']>[0] = {}) {
  const { license, licenseKey } = await sold.sell(terms);
  const node = await activateNode(server, licenseKey);
  nodes.push(node);
  const { leaseId } = await node.claimsOf((await node.acquire(sold.image)).lease);
  return { node, license, leaseId };
}

const statesOf = async (licenseId: string) =>
  (await sold.client.leases({ license: licenseId })).map(({ state }) => state);

it('leases that are renewed are superseded, and void once the license has changed', async () => {
  const { node, license, leaseId } = await licensedNode();
  expect(await statesOf(license.id)).toEqual(['ACTIVE']);
  await node.renew([leaseId]);
  expect(await statesOf(license.id)).toEqual(['SUPERSEDED', 'ACTIVE']);
  await sold.client.changeLicense(license.id, 'suspend');
  expect(await statesOf(license.id)).toEqual(['VOID', 'VOID']);
});

it('leases of a node that is banned are void until it is let in again', async () => {
  const { node, license } = await licensedNode();
  await sold.client.changeNode(node.activation.nodeId, 'ban');
  expect(await statesOf(license.id)).toEqual(['VOID']);
  await sold.client.changeNode(node.activation.nodeId, 'unban');
  expect(await statesOf(license.id)).toEqual(['ACTIVE']);
});

it('a lease says until when it counts for a node that reaches nobody, and is over then', async () => {
  const { license } = await licensedNode({ connectivityGraceMs: HOUR_MS });
  const [lease] = await sold.client.leases({ license: license.id });
  expect(lease!.usableUntilMs).toBe(lease!.expiresAtMs + HOUR_MS);
  const { license: short } = await licensedNode({ leaseDurationMs: 1000 });
  const [other] = await sold.client.leases({ license: short.id });
  expect(other!.usableUntilMs).toBe(other!.expiresAtMs);
  while ((await sold.client.leases({ license: short.id }))[0]?.state === 'ACTIVE')
    expect(Date.now()).toBeLessThan(other!.expiresAtMs + HOUR_MS);
  expect(await statesOf(short.id)).toEqual(['EXPIRED']);
  expect(Date.now()).toBeGreaterThanOrEqual(other!.expiresAtMs);
});

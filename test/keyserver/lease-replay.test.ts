/** Requests that come a second time, and leases that two hold: what is honest goes through, and nothing else. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct, registerImage } from '../fakes/sold-product.ts';

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

async function licensedNode() {
  const { license, licenseKey } = await sold.sell();
  const node = await activateNode(server, licenseKey);
  nodes.push(node);
  return { node, license };
}

describe('the nonce of a start', () => {
  it('gives the same lease once more for the same nonce, and then refuses it; the log tells of all three', async () => {
    const { node, license } = await licensedNode();
    const request = { ...sold.image, nonce: randomBytes(16) };
    const [first, second] = [await node.acquire(request), await node.acquire(request)];
    expect(Buffer.from(await node.openImageKey(second))).toEqual(Buffer.from(sold.image.imageKey));
    const [given, again] = [await node.claimsOf(first.lease), await node.claimsOf(second.lease)];
    expect({ ...again, receipt: given.receipt }).toEqual(given);
    expect(second.auditSequence).toBeGreaterThan(first.auditSequence);
    await expect(node.acquire(request)).rejects.toMatchObject({
      code: 'DENIED_REPLAY',
      licenseId: license.id,
      hint: 'ask again with a new nonce',
    });
    expect((await sold.client.leases({ license: license.id })).map(({ id }) => id)).toEqual([given.leaseId]);
    const told = await auditLog(sold.client, first.auditSequence - 1);
    expect(told).toMatchObject([
      { action: 'lease.acquire', outcome: 'allowed', detail: { leaseId: given.leaseId } },
      { action: 'lease.acquire', outcome: 'allowed', detail: { leaseId: given.leaseId, isRepeat: true } },
      { action: 'lease.acquire', outcome: 'denied', code: 'DENIED_REPLAY' },
    ]);
    expect(told[0]?.detail).not.toHaveProperty('isRepeat');
  });

  it('gives the lease of one nonce to two that ask at once, and to no third', async () => {
    const { node } = await licensedNode();
    const request = { ...sold.image, nonce: randomBytes(16) };
    const answers = await Promise.allSettled([1, 2, 3, 4].map(() => node.acquire(request)));
    const given = answers.filter((answer) => answer.status === 'fulfilled').map(({ value }) => value.lease);
    const ids = given.map(async (lease) => (await node.claimsOf(lease)).leaseId);
    expect(given).toHaveLength(2);
    expect(new Set(await Promise.all(ids)).size).toBe(1);
    for (const answer of answers) {
      if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ code: 'DENIED_REPLAY' });
    }
  });

  it('takes the nonce of one image for another one, and that of before a change, for a replay', async () => {
    const { node, license } = await licensedNode();
    const other = await registerImage(sold.client, sold.productCode);
    const nonce = randomBytes(16);
    await node.acquire({ ...sold.image, nonce });
    await expect(node.acquire({ ...other, nonce })).rejects.toMatchObject({ code: 'DENIED_REPLAY' });
    await sold.client.changeLicense(license.id, 'suspend');
    // What has become of the license counts, not what was answered.
    await expect(node.acquire({ ...sold.image, nonce })).rejects.toMatchObject({
      code: 'DENIED_LICENSE_SUSPENDED',
    });
    await sold.client.changeLicense(license.id, 'reinstate');
    await expect(node.acquire({ ...sold.image, nonce })).rejects.toMatchObject({ code: 'DENIED_REPLAY' });
  });

  it('knows the nonces of a node by that node alone', async () => {
    const [{ node: one }, { node: other }] = [await licensedNode(), await licensedNode()];
    const request = { ...sold.image, nonce: randomBytes(16) };
    const given = await one.claimsOf((await one.acquire(request)).lease);
    const own = await other.claimsOf((await other.acquire(request)).lease);
    expect(own).not.toMatchObject({ leaseId: given.leaseId });
  });
});

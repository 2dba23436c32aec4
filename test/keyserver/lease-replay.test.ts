/** Requests that come a second time, and leases that two hold: what is honest goes through, and nothing else. */
import { randomBytes } from 'node:crypto';
import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ChainPosition, OpenSessionRequest } from '#src/wire/generated/latchkey/node.ts';
import { callUnary } from '#src/wire/unary.ts';
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

describe('a lease that another one has replaced', () => {
  /** The lease that follows, or the code of the refusal. */
  async function renew(node: LicensedNode, leaseId: string, position?: ChainPosition): Promise<string> {
    const { outcome } = (await node.renew([leaseId], position)).results[0]!;
    if (outcome?.$case === 'denial') return outcome.value.code;
    return (await node.claimsOf(outcome!.value)).leaseId;
  }

  async function firstLease(node: LicensedNode): Promise<string> {
    return (await node.claimsOf((await node.acquire(sold.image)).lease)).leaseId;
  }

  const stateOf = async (nodeId: string) => (await sold.client.node(nodeId)).state;

  it('is renewed again for a node that has lost the answers', async () => {
    const { node } = await licensedNode();
    let held = await firstLease(node);
    for (let round = 0; round < 3; round += 1) {
      for (let lost = 0; lost < 2; lost += 1) await renew(node, held);
      held = await renew(node, held);
      expect(held).toMatch(/^lease_/);
    }
    expect(await stateOf(node.activation.nodeId)).toBe('ACTIVE');
  });

  it('exposes a copy once its successor was used: nothing more is renewed, the node is told, the log tells', async () => {
    const { node } = await licensedNode();
    const { nodeId } = node.activation;
    const [old, other] = [await firstLease(node), await firstLease(node)];
    const newest = await renew(node, await renew(node, old));
    const { revision } = await sold.client.organization();
    const stream = node.client.watchRevocations({ afterRevision: revision, position: undefined });
    const ended = new Promise<unknown>((resolve) => stream.once('error', resolve));
    await new Promise((resolve) => stream.once('data', resolve));

    const { results } = await node.renew([other, old]);
    expect(results.map(({ outcome }) => outcome?.value)).toMatchObject([
      { code: 'DENIED_NODE_CLONED' },
      { code: 'DENIED_LEASE_CLONED' },
    ]);
    expect(await ended).toMatchObject({ details: expect.stringContaining('DENIED_NODE_CLONED') as string });
    expect(await stateOf(nodeId)).toBe('CLONED');
    const [refused, exposed] = (await auditLog(sold.client)).slice(-2);
    expect(refused).toMatchObject({ action: 'lease.renew', target: other, code: 'DENIED_NODE_CLONED' });
    expect(exposed).toMatchObject({ action: 'lease.renew', target: old, code: 'DENIED_LEASE_CLONED' });
    expect(await renew(node, newest)).toBe('DENIED_NODE_CLONED');
    await expect(node.acquire(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_CLONED' });

    await sold.client.changeNode(nodeId, 'readmit');
    // What was known of its leases has been looked at; the next start asks for a new one.
    expect(await renew(node, old)).toBe('DENIED_LEASE_INVALID');
    const fresh = await firstLease(node);
    expect(await renew(node, fresh)).toMatch(/^lease_/);
    expect(await stateOf(nodeId)).toBe('ACTIVE');
  });

  it('exposes a copy that was taken for a lost answer first, when both go on', async () => {
    const { node } = await licensedNode();
    const common = await firstLease(node);
    const [mine, theirs] = [await renew(node, common), await renew(node, common)];
    expect(await renew(node, mine)).toMatch(/^lease_/);
    expect(await renew(node, theirs)).toBe('DENIED_LEASE_CLONED');
    expect(await stateOf(node.activation.nodeId)).toBe('CLONED');
  });

  it('exposes a copy also beside a session, if it sends no position; one that does is judged by it', async () => {
    const { node } = await licensedNode();
    const old = await firstLease(node);
    const { sequence, token } = await callUnary(
      node.client.openSession.bind(node.client),
      OpenSessionRequest.fromPartial({ requestId: 'r', machine: 'm', boot: 'b' }),
      new Metadata(),
      {},
    );
    const at = (counter: number): ChainPosition => ({ sequence, token, counter });
    const newest = await renew(node, await renew(node, old, at(1)), at(2));
    await expect(renew(node, newest)).rejects.toMatchObject({ code: 'STATE_SESSION_STALE' });
    await expect(renew(node, old, at(2))).rejects.toMatchObject({ code: 'STATE_SESSION_STALE' });
    expect(await stateOf(node.activation.nodeId)).toBe('ACTIVE');
    expect(await renew(node, old)).toBe('DENIED_LEASE_CLONED');
    expect(await stateOf(node.activation.nodeId)).toBe('CLONED');
  });

  it('says nothing of a node that starts again and asks for new leases', async () => {
    const { node } = await licensedNode();
    const before = await renew(node, await firstLease(node));
    const after = await renew(node, await firstLease(node));
    expect(await renew(node, after)).toMatch(/^lease_/);
    expect(await renew(node, before)).toMatch(/^lease_/);
    expect(await stateOf(node.activation.nodeId)).toBe('ACTIVE');
  });
});

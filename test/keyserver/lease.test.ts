import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { WatchRevocationsResponse } from '#src/wire/generated/latchkey/node.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import {
  type SoldProduct,
  auditLog,
  createSoldProduct,
  randomDigest,
  registerImage,
} from '../fakes/sold-product.ts';

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
  return { node, license, licenseKey };
}

describe('acquiring a lease', () => {
  it('gives a signed lease and the image key, sealed to the node', async () => {
    const { node, license } = await licensedNode({ leaseDurationMs: 60_000, onRevoke: 'stop' });
    const before = Date.now();
    const answer = await node.acquire(sold.image);
    expect(Buffer.from(await node.openImageKey(answer))).toEqual(Buffer.from(sold.image.imageKey));
    const claims = await node.claimsOf(answer.lease);
    expect(claims).toMatchObject({
      nodeId: node.activation.nodeId,
      licenseId: license.id,
      imageDigest: sold.image.imageDigest,
      imageKeyId: sold.image.imageKeyId,
      onRevoke: 'stop',
      contact: 'help@acme.example',
    });
    expect(claims.expiresAtMs - claims.issuedAtMs).toBe(60_000);
    expect(claims.issuedAtMs).toBeGreaterThanOrEqual(before);
    expect(answer.auditSequence).toBeGreaterThan(0);
    const [event] = await auditLog(sold.client, answer.auditSequence - 1);
    expect(event).toMatchObject({
      action: 'lease.acquire',
      outcome: 'allowed',
      target: sold.image.imageDigest,
    });
  });

  it.each([
    { name: 'image digest', imageDigest: 'sha256:abc' },
    { name: 'image key id', imageKeyId: '' },
    { name: 'nonce', nonce: randomBytes(4) },
  ])('refuses a malformed $name', async (change) => {
    const { node } = await licensedNode();
    await expect(node.acquire({ ...sold.image, ...change })).rejects.toMatchObject({
      code: 'INPUT_MALFORMED',
    });
  });

  it('refuses an image that was never registered, naming the license', async () => {
    const { node, license } = await licensedNode();
    const error: unknown = await node
      .acquire({ ...sold.image, imageDigest: randomDigest() })
      .catch((e: unknown) => e);
    expect(error).toMatchObject({
      code: 'DENIED_IMAGE_UNKNOWN',
      licenseId: license.id,
      contact: 'help@acme.example',
    });
  });

  it('refuses the image of a product the node has no license for', async () => {
    const { node } = await licensedNode();
    const other = await createSoldProduct(server);
    await expect(node.acquire(other.image)).rejects.toMatchObject({ code: 'DENIED_LICENSE_NOT_FOUND' });
  });

  it('refuses the image key of another release', async () => {
    const { node } = await licensedNode();
    const other = await registerImage(sold.client, sold.productCode);
    const mixed = { ...sold.image, imageKeyId: other.imageKeyId };
    await expect(node.acquire(mixed)).rejects.toMatchObject({ code: 'DENIED_PRODUCT_MISMATCH' });
  });

  it.each([
    { name: 'behind', skewMs: -6 * 60_000 },
    { name: 'ahead', skewMs: 6 * 60_000 },
  ])('refuses a clock that is far $name', async ({ skewMs }) => {
    const { node } = await licensedNode();
    const request = { ...sold.image, nodeTimeMs: Date.now() + skewMs };
    await expect(node.acquire(request)).rejects.toMatchObject({ code: 'DENIED_CLOCK_SKEW' });
  });

  it('denies after a revocation was answered, and a reinstated license starts again', async () => {
    const { node, license } = await licensedNode();
    const first = await node.claimsOf((await node.acquire(sold.image)).lease);
    await sold.client.changeLicense(license.id, 'suspend', 'unpaid');
    await expect(node.acquire(sold.image)).rejects.toMatchObject({ code: 'DENIED_LICENSE_SUSPENDED' });
    await sold.client.changeLicense(license.id, 'reinstate');
    const second = await node.claimsOf((await node.acquire(sold.image)).lease);
    expect(second.epoch).toBeGreaterThan(first.epoch);
    await sold.client.changeLicense(license.id, 'revoke');
    const error: unknown = await node.acquire(sold.image).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'DENIED_LICENSE_REVOKED', licenseId: license.id });
    await expect(sold.client.changeLicense(license.id, 'reinstate')).rejects.toMatchObject({
      code: 'STATE_PRECONDITION',
    });
  });

  it('denies all licenses of a blocked customer until it is unblocked', async () => {
    const other = await createSoldProduct(server);
    const { licenseKey } = await other.sell();
    const node = await activateNode(server, licenseKey);
    nodes.push(node);
    await other.client.changeCustomer(other.customerId, 'block');
    await expect(node.acquire(other.image)).rejects.toMatchObject({ code: 'DENIED_CUSTOMER_BLOCKED' });
    await other.client.changeCustomer(other.customerId, 'unblock');
    expect((await node.acquire(other.image)).lease).not.toBe('');
  });

  it('denies a banned node until it is let in again', async () => {
    const { node } = await licensedNode();
    const { nodeId } = node.activation;
    await sold.client.changeNode(nodeId, 'ban');
    await expect(node.acquire(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
    await sold.client.changeNode(nodeId, 'unban');
    expect((await node.acquire(sold.image)).lease).not.toBe('');
  });

  it('denies before the start and after the end of a license', async () => {
    const expiresAtMs = Date.now() + 3_600_000;
    const { node, license } = await licensedNode({ expiresAtMs });
    const claims = await node.claimsOf((await node.acquire(sold.image)).lease);
    expect(claims.expiresAtMs).toBeLessThanOrEqual(expiresAtMs);
    await sold.client.updateLicense(license.id, { expiresAtMs: Date.now() + 500 });
    await expect
      .poll(
        () =>
          node.acquire(sold.image).then(
            () => 'allowed',
            (error: unknown) => error,
          ),
        { timeout: 60_000 },
      )
      .toMatchObject({ code: 'DENIED_LICENSE_EXPIRED' });
    await expect(licensedNode({ startsAtMs: Date.now() + 60_000 })).rejects.toMatchObject({
      code: 'DENIED_LICENSE_NOT_STARTED',
    });
  });
});

describe('renewing leases', () => {
  it('answers each lease of a batch on its own, and tells of each in the log', async () => {
    const { node, license } = await licensedNode();
    const { node: stranger } = await licensedNode();
    const claims: LeaseClaims[] = [];
    for (const from of [node, node, stranger])
      claims.push(await from.claimsOf((await from.acquire(sold.image)).lease));
    const [first, second, foreign] = claims.map(({ leaseId }) => leaseId) as [string, string, string];
    const asked = [second, foreign, first, 'lease_unknown', second];
    const actor = `node:${node.activation.nodeId}`;
    const { results } = await node.renew(asked);
    expect(results.map(({ leaseId }) => leaseId)).toEqual(asked);
    const events = [];
    for await (const event of sold.client.auditEvents())
      if (event.action === 'lease.renew' && event.actor === actor) events.push(event);
    expect(events.map(({ target }) => target)).toEqual(asked);
    for (const [index, { leaseId, outcome }] of results.entries()) {
      if (leaseId === foreign || leaseId === 'lease_unknown') {
        const code = 'DENIED_LEASE_INVALID';
        expect(outcome).toMatchObject({ $case: 'denial', value: { code } });
        expect(events[index]).toMatchObject({ outcome: 'denied', code });
        continue;
      }
      const { receipt, ...renewed } = await node.claimsOf(outcome?.value as string);
      expect(renewed).toMatchObject({ licenseId: license.id, epoch: claims[0]?.epoch });
      expect(renewed.leaseId).not.toBe(leaseId);
      expect(events[index]).toMatchObject({ detail: { leaseId: renewed.leaseId }, ...receipt });
    }
  });

  it('renews nothing of an older epoch, of a revoked license or of another node', async () => {
    const { node, license } = await licensedNode();
    const { node: stranger } = await licensedNode();
    const { leaseId } = await node.claimsOf((await node.acquire(sold.image)).lease);
    expect((await stranger.renew([leaseId])).results[0]).toMatchObject({
      outcome: { value: { code: 'DENIED_LEASE_INVALID' } },
    });
    await sold.client.changeLicense(license.id, 'suspend');
    await sold.client.changeLicense(license.id, 'reinstate');
    expect((await node.renew([leaseId])).results[0]).toMatchObject({
      outcome: { value: { code: 'DENIED_LEASE_INVALID' } },
    });
    await sold.client.changeLicense(license.id, 'revoke');
    expect((await node.renew([leaseId])).results[0]).toMatchObject({
      outcome: { value: { code: 'DENIED_LICENSE_REVOKED', licenseId: license.id } },
    });
  });

  it('signs all leases of a batch at once, and each for itself for a node that knows no list', async () => {
    const { node } = await licensedNode();
    const leaseIds: string[] = [];
    for (let count = 0; count < 3; count += 1)
      leaseIds.push((await node.claimsOf((await node.acquire(sold.image)).lease)).leaseId);
    const asked = [leaseIds[0]!, 'lease_unknown', leaseIds[1]!, leaseIds[2]!];
    const listed = await node.renew(asked);
    const renewed = listed.results.flatMap(({ outcome }) =>
      outcome?.$case === 'lease' ? [outcome.value] : [],
    );
    expect(new Set(renewed.map((token) => token.split('~')[0])).size).toBe(1);
    const next = await Promise.all(renewed.map(async (token) => (await node.claimsOf(token)).leaseId));
    expect(new Set([...next, ...leaseIds]).size).toBe(6);
    const { results, leaseList } = await node.renew(next, undefined, false);
    expect(leaseList).toBe('');
    for (const { outcome } of results) {
      expect(outcome).toMatchObject({ $case: 'lease', value: expect.not.stringContaining('~') as string });
      await node.claimsOf(outcome!.value as string);
    }
  });

  it('refuses more leases at once than the limit', async () => {
    const { node } = await licensedNode();
    await expect(node.renew(Array.from({ length: 101 }, () => 'lease_x'))).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
  });
});

describe('watching revocations', () => {
  function watch(node: LicensedNode, afterRevision: number) {
    const stream = node.client.watchRevocations({ afterRevision, position: undefined });
    const messages: WatchRevocationsResponse[] = [];
    const ended = new Promise<unknown>((resolve) => stream.once('error', resolve));
    stream.on('data', (message: WatchRevocationsResponse) => messages.push(message));
    return { stream, messages, ended };
  }

  it('says at once that it is connected, then tells a revocation with its reason', async () => {
    const { node, license } = await licensedNode();
    const { revision } = await sold.client.organization();
    const { stream, messages } = watch(node, revision);
    await expect.poll(() => messages.length).toBe(1);
    expect(messages[0]).toMatchObject({ event: { $case: 'heartbeat' }, revision });
    await sold.client.changeLicense(license.id, 'revoke');
    await expect.poll(() => messages.length).toBe(2);
    expect(messages[1]).toMatchObject({
      revision: revision + 1,
      event: {
        $case: 'licenseChange',
        value: {
          licenseId: license.id,
          state: 'REVOKED',
          epoch: 3,
          denial: { code: 'DENIED_LICENSE_REVOKED', licenseId: license.id, contact: 'help@acme.example' },
        },
      },
    });
    stream.cancel();
  });

  it('replays what a node has missed, and nothing of other licenses', async () => {
    const { node, license } = await licensedNode();
    const { license: other } = await licensedNode();
    const { revision } = await sold.client.organization();
    await sold.client.changeLicense(license.id, 'suspend');
    await sold.client.changeLicense(other.id, 'suspend');
    const { stream, messages } = watch(node, revision);
    await expect.poll(() => messages.length).toBe(2);
    expect(messages.map((message) => message.event?.$case)).toEqual(['licenseChange', 'heartbeat']);
    expect(messages[0]?.event?.value).toMatchObject({ licenseId: license.id, state: 'SUSPENDED' });
    stream.cancel();
  });

  it('tells a banned node why, and ends', async () => {
    const { node } = await licensedNode();
    const { revision } = await sold.client.organization();
    const { messages, ended } = watch(node, revision);
    await expect.poll(() => messages.length).toBe(1);
    await sold.client.changeNode(node.activation.nodeId, 'ban');
    expect(await ended).toMatchObject({ details: expect.stringContaining('DENIED_NODE_BANNED') as string });
    expect(messages.at(-1)).toMatchObject({
      event: { $case: 'licenseChange', value: { denial: { code: 'DENIED_NODE_BANNED' } } },
    });
  });
});

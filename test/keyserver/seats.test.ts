/** Seats of installations, nodes and nodes at once, on the real server. */
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import {
  type ActivationOptions,
  type LicensedNode,
  activateNode,
  createNodeKey,
} from '../fakes/licensed-node.ts';
import { offlineRequest } from '../fakes/offline-node.ts';
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

async function activate(licenseKey: string, options: ActivationOptions = {}): Promise<LicensedNode> {
  const node = await activateNode(server, licenseKey, options);
  nodes.push(node);
  return node;
}

/** A license and nodes that were activated with it. */
async function licensedNodes(count: number, terms: Partial<LicenseRequest>) {
  const { license, licenseKey } = await sold.sell({ maxNodes: 10, ...terms });
  const activated: LicensedNode[] = [];
  for (let index = 0; index < count; index += 1) activated.push(await activate(licenseKey));
  return { id: license.id, licenseKey, nodes: activated };
}

async function codeOf(attempt: Promise<unknown>): Promise<string> {
  return attempt.then(
    () => 'allowed',
    (error: unknown) => (error as { code: string }).code,
  );
}

const isInGrace = (detail: unknown) => (detail as { isInGrace?: boolean }).isInGrace;
const isOverdrawn = (detail: unknown) => (detail as { isOverdrawn?: boolean }).isOverdrawn;

const start = (node: LicensedNode) => codeOf(node.acquire(sold.image));
const leaseIdOf = ({ lease }: { lease: string }) => decodeJwt<LeaseClaims>(lease).leaseId;

describe('installations', () => {
  it('are counted by what nodes say, and a node that does not say is one of its own', async () => {
    const { license, licenseKey } = await sold.sell({ maxNodes: 10, maxInstallations: 2 });
    await activate(licenseKey, { installation: 'cluster-a' });
    await activate(licenseKey, { installation: 'cluster-a' });
    const silentKey = await createNodeKey();
    await activate(licenseKey, { key: silentKey });
    for (const installation of ['cluster-b', '']) {
      expect(await codeOf(activate(licenseKey, { installation }))).toBe('DENIED_INSTALLATION_LIMIT');
    }
    await activate(licenseKey, { installation: 'cluster-a' });
    await activate(licenseKey, { key: silentKey });
    expect(await sold.client.license(license.id)).toMatchObject({
      ...{ maxInstallations: 2, usedInstallations: 2, usedNodes: 4 },
    });
  });

  it('take over the last node of another, but no more than there are seats', async () => {
    const { licenseKey } = await sold.sell({ maxNodes: 10, maxInstallations: 1 });
    const key = await createNodeKey();
    await activate(licenseKey, { key, installation: 'cluster-a' });
    await activate(licenseKey, { key, installation: 'cluster-b' });
    const other = await activate(licenseKey, { installation: 'cluster-b' });
    const move = () => codeOf(activate(licenseKey, { key, installation: 'cluster-c' }));
    expect(await move()).toBe('DENIED_INSTALLATION_LIMIT');
    await sold.client.changeNode(other.activation.nodeId, 'ban');
    expect(await move()).toBe('allowed');
    await expect(sold.client.changeNode(other.activation.nodeId, 'unban')).rejects.toMatchObject({
      code: 'STATE_PRECONDITION',
      message: expect.stringContaining('1 installation') as string,
    });
  });
});

describe('nodes at once', () => {
  it('are those that hold a lease, for whichever and however many images', async () => {
    const {
      id,
      nodes: [one, two],
    } = await licensedNodes(2, { maxConcurrent: 1 });
    const leaseId = leaseIdOf(await one!.acquire(sold.image));
    expect(await start(two!)).toBe('DENIED_CONCURRENCY_LIMIT');
    const other = await registerImage(sold.client, sold.productCode);
    await one!.acquire(other);
    const { results } = await one!.renew([leaseId]);
    expect(results[0]?.outcome?.$case).toBe('lease');
    expect(await start(two!)).toBe('DENIED_CONCURRENCY_LIMIT');
    expect(await sold.client.license(id)).toMatchObject({ maxConcurrent: 1, usedConcurrent: 1 });
    await sold.client.changeNode(one!.activation.nodeId, 'ban');
    expect(await start(two!)).toBe('allowed');
  });

  it('are free when a lease has ended', async () => {
    const {
      nodes: [one, two],
    } = await licensedNodes(2, { maxConcurrent: 1, leaseDurationMs: 1000 });
    const endOf = ({ lease }: { lease: string }) => decodeJwt<LeaseClaims>(lease).expiresAtMs;
    const freeAtMs = endOf(await one!.acquire(sold.image));
    // On a busy machine the next lease can be over before the other node has been answered: then once more.
    for (let takenUntilMs = 0, isJudged = false; !isJudged;) {
      const take = async () => (takenUntilMs = endOf(await two!.acquire(sold.image)));
      await expect.poll(() => codeOf(take()), { timeout: 60_000 }).toBe('allowed');
      expect(Date.now()).toBeGreaterThanOrEqual(freeAtMs);
      const answer = await start(one!);
      isJudged = Date.now() < takenUntilMs;
      if (isJudged) expect(answer).toBe('DENIED_CONCURRENCY_LIMIT');
    }
  });

  it('are no more than that when all ask together', async () => {
    const { id, nodes: many } = await licensedNodes(5, { maxConcurrent: 2 });
    const codes = await Promise.all(many.map(start));
    expect(codes.filter((code) => code === 'allowed')).toHaveLength(2);
    expect(codes.filter((code) => code === 'DENIED_CONCURRENCY_LIMIT')).toHaveLength(3);
    expect((await sold.client.license(id)).usedConcurrent).toBe(2);
  });

  it('are asked for again after a change of the license: leases of before hold no seat', async () => {
    const {
      id,
      nodes: [one, two],
    } = await licensedNodes(2, { maxConcurrent: 1 });
    const leaseId = leaseIdOf(await one!.acquire(sold.image));
    await sold.client.changeLicense(id, 'suspend');
    await sold.client.changeLicense(id, 'reinstate');
    expect(await start(two!)).toBe('allowed');
    expect(await start(one!)).toBe('DENIED_CONCURRENCY_LIMIT');
    expect((await one!.renew([leaseId])).results[0]?.outcome).toMatchObject({ $case: 'denial' });
  });
});

describe('overage', () => {
  it('lets a license be overdrawn by its factor, and says so in the audit log', async () => {
    const { license, licenseKey } = await sold.sell({ maxNodes: 2, overage: '1.5x' });
    const last = (await auditLog(sold.client)).at(-1)?.sequence;
    for (let count = 0; count < 3; count += 1) await activate(licenseKey);
    expect(await codeOf(activate(licenseKey))).toBe('DENIED_NODE_LIMIT');
    expect(await sold.client.license(license.id)).toMatchObject({
      maxNodes: 2,
      usedNodes: 3,
      overage: '1.5x',
    });
    const events = (await auditLog(sold.client, last)).filter(({ action }) => action === 'node.activate');
    expect(events.map(({ outcome, detail }) => [outcome, isOverdrawn(detail)])).toEqual([
      ['allowed', undefined],
      ['allowed', undefined],
      ['allowed', true],
      ['denied', undefined],
    ]);
  });

  it('counts for nodes at once too, where it may have no end', async () => {
    const { id, nodes: many } = await licensedNodes(3, { maxConcurrent: 1, overage: 'always' });
    const last = (await auditLog(sold.client)).at(-1)?.sequence;
    for (const node of many) expect(await start(node)).toBe('allowed');
    const events = await auditLog(sold.client, last);
    expect(events.map(({ detail }) => isOverdrawn(detail))).toEqual([undefined, true, true]);
    expect(await sold.client.license(id)).toMatchObject({ maxConcurrent: 1, usedConcurrent: 3 });
  });

  it('is in the audit log as well for nodes without a line, as is the grace', async () => {
    const terms = { overage: 'always', expiryGraceMs: 3_600_000 } as const;
    const { license } = await sold.sell({ maxNodes: 1, maxConcurrent: 1, ...terms });
    await sold.client.updateLicense(license.id, { expiresAtMs: Date.now() - 1 });
    const last = (await auditLog(sold.client)).at(-1)?.sequence;
    const requests = await Promise.all([1, 2].map(async () => offlineRequest(await createNodeKey())));
    await sold.client.checkOut(license.id, { requests });
    const events = await auditLog(sold.client, last);
    const marks = events.map(({ action, detail }) => [action, isOverdrawn(detail), isInGrace(detail)]);
    expect(marks).toEqual([
      ['node.activate', undefined, undefined],
      ['license.check-out', undefined, true],
      ['node.activate', true, undefined],
      ['license.check-out', true, true],
    ]);
  });
});

/** What the end of a license means, on the real server and its own clock. */
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { EXPIRATION_STRATEGIES } from '#src/licensing/expiry.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { LicenseState } from '#src/licensing/license-state.ts';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import {
  type RegisteredImage,
  type SoldProduct,
  auditLog,
  createSoldProduct,
  registerImage,
} from '../fakes/sold-product.ts';

/** Short, and counted from the activation: however slow the machine is, a node is activated before it is over. */
const SHORT = { durationMs: 1000, expirationBasis: 'activation' } as const;
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

async function activate(licenseKey: string): Promise<LicensedNode> {
  const node = await activateNode(server, licenseKey);
  nodes.push(node);
  return node;
}

async function sellAndActivate(terms: Partial<LicenseRequest>) {
  const { license, licenseKey } = await sold.sell(terms);
  return { id: license.id, created: license, licenseKey, node: await activate(licenseKey) };
}

function codeOf(attempt: Promise<unknown>): Promise<string> {
  return attempt.then(
    () => 'allowed',
    (error: unknown) => (error as { code: string }).code,
  );
}

async function claimsOf(node: LicensedNode, image = sold.image): Promise<LeaseClaims> {
  return decodeJwt<LeaseClaims>((await node.acquire(image)).lease);
}

async function untilState(id: string, state: LicenseState): Promise<void> {
  await vi.waitUntil(async () => (await sold.client.license(id)).state === state, { timeout: 60_000 });
}

describe('after its end a license with', () => {
  const licenses: Record<string, Awaited<ReturnType<typeof sellAndActivate>>> = {};
  let later: RegisteredImage;

  beforeAll(async () => {
    for (const expirationStrategy of EXPIRATION_STRATEGIES) {
      licenses[expirationStrategy] = await sellAndActivate({ ...SHORT, expirationStrategy });
    }
    for (const { id } of Object.values(licenses)) {
      await untilState(id, 'EXPIRED');
    }
    later = await registerImage(sold.client, sold.productCode);
  });

  const NO = 'DENIED_LICENSE_EXPIRED';
  it.each([
    ['revoke-access', { newNode: NO, sameNode: NO, earlier: NO, later: NO }],
    ['restrict-access', { newNode: NO, sameNode: 'allowed', earlier: 'allowed', later: NO }],
    ['maintain-access', { newNode: 'allowed', sameNode: 'allowed', earlier: 'allowed', later: NO }],
    ['allow-access', { newNode: 'allowed', sameNode: 'allowed', earlier: 'allowed', later: 'allowed' }],
  ] as const)('%s: %o', async (strategy, outcome) => {
    const { licenseKey, node } = licenses[strategy]!;
    expect({
      newNode: await codeOf(activate(licenseKey)),
      sameNode: await codeOf(
        activateNode(server, licenseKey, { key: node.key }).then((again) => again.close()),
      ),
      earlier: await codeOf(node.acquire(sold.image)),
      later: await codeOf(node.acquire(later)),
    }).toEqual(outcome);
  });

  it('goes on with renewals where it goes on with starts', async () => {
    const { node, id } = licenses['restrict-access']!;
    const { leaseId, expiresAtMs, issuedAtMs } = await claimsOf(node);
    expect(expiresAtMs - issuedAtMs).toBe((await sold.client.license(id)).leaseDurationMs);
    expect((await node.renew([leaseId])).results[0]?.outcome?.$case).toBe('lease');
  });
});

describe('grace', () => {
  it('lets everything go on past the end, and everybody is told', async () => {
    const { id, licenseKey, node } = await sellAndActivate({ ...SHORT, expiryGraceMs: HOUR_MS });
    await untilState(id, 'GRACE');
    const last = (await auditLog(sold.client)).at(-1)?.sequence;
    const claims = await claimsOf(node);
    const { expiresAtMs } = await sold.client.license(id);
    expect(claims.grace).toEqual({ fromMs: expiresAtMs, untilMs: expiresAtMs! + HOUR_MS });
    expect(claims.expiresAtMs).toBe(expiresAtMs! + HOUR_MS);
    await activate(licenseKey);
    const [acquired] = await auditLog(sold.client, last);
    expect(acquired?.detail).toMatchObject({ isInGrace: true });
  });

  it('ends too', async () => {
    const { id, node } = await sellAndActivate({ ...SHORT, expiryGraceMs: 1000 });
    await untilState(id, 'EXPIRED');
    expect(await codeOf(node.acquire(sold.image))).toBe('DENIED_LICENSE_EXPIRED');
  });

  it('is not in leases of licenses that have none', async () => {
    const { node } = await sellAndActivate({ expiresAtMs: Date.now() + HOUR_MS });
    expect(await claimsOf(node)).not.toHaveProperty('grace');
  });
});

describe('a term counts from', () => {
  it('the creation, or a later start', async () => {
    const { license } = await sold.sell({ durationMs: HOUR_MS });
    expect(license.expiresAtMs).toBe(license.createdAtMs + HOUR_MS);
    const startsAtMs = Date.now() + HOUR_MS;
    const { license: later } = await sold.sell({ durationMs: HOUR_MS, startsAtMs });
    expect(later.expiresAtMs).toBe(startsAtMs + HOUR_MS);
  });

  it('the first node, once', async () => {
    const { created, id, licenseKey } = await sellAndActivate({
      ...{ durationMs: HOUR_MS, expirationBasis: 'activation' },
    });
    expect(created.expiresAtMs).toBeNull();
    const { expiresAtMs, epoch } = await sold.client.license(id);
    expect(expiresAtMs).toBeGreaterThanOrEqual(created.createdAtMs + HOUR_MS);
    await activate(licenseKey);
    expect(await sold.client.license(id)).toMatchObject({ expiresAtMs, epoch });
  });

  it('the first start, once; the lease is of the epoch that begins with it', async () => {
    const { id, node, licenseKey } = await sellAndActivate({ durationMs: HOUR_MS, expirationBasis: 'lease' });
    const before = await sold.client.license(id);
    expect(before.expiresAtMs).toBeNull();
    const claims = await claimsOf(node);
    const after = await sold.client.license(id);
    expect(after.expiresAtMs).toBe(claims.issuedAtMs + HOUR_MS);
    expect(after.revision).toBeGreaterThan(before.revision);
    expect([after.epoch, claims.epoch]).toEqual([before.epoch + 1, before.epoch + 1]);
    expect(claims.expiresAtMs).toBe(after.expiresAtMs);
    await (await activate(licenseKey)).acquire(sold.image);
    expect(await sold.client.license(id)).toMatchObject({
      expiresAtMs: after.expiresAtMs,
      epoch: after.epoch,
    });
  });

  it('nothing where an end was given', async () => {
    const expiresAtMs = Date.now() + HOUR_MS;
    const terms = { durationMs: 1000, expirationBasis: 'lease', expiresAtMs } as const;
    const { id, node } = await sellAndActivate(terms);
    await node.acquire(sold.image);
    expect((await sold.client.license(id)).expiresAtMs).toBe(expiresAtMs);
  });
});

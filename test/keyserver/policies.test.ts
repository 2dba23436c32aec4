/** Policies and what licenses take from them, on the real server. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TERM_NAMES } from '#src/licensing/license-terms.ts';
import type { LicenseUpdate } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { undoMigrations } from '../fakes/old-database.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const DAY_MS = 86_400_000;

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

const newCode = () => `pro-${randomBytes(4).toString('hex')}`;

describe('a policy', () => {
  it('gives a license what the license does not say itself', async () => {
    const code = newCode();
    await sold.client.policies.create({
      ...{ code, maxNodes: 7, entitlements: ['sso'], durationMs: 30 * DAY_MS, expiryGraceMs: DAY_MS },
    });
    const { license } = await sold.sell({ policy: code, maxNodes: 2, maxConcurrent: 'unlimited' });
    expect(license).toMatchObject({
      ...{ policyCode: code, maxNodes: 2, entitlements: ['sso'], durationMs: 30 * DAY_MS },
      ...{ expiresAtMs: license.createdAtMs + 30 * DAY_MS, expiryGraceMs: DAY_MS },
      ownTerms: ['maxConcurrent', 'maxNodes'],
    });
    expect(await sold.client.policies.show(code)).toMatchObject({ name: code, licenses: 1, isTrial: false });
    await expect(sold.client.policies.create({ code })).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
    await expect(sold.sell({ policy: 'none' })).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });

  it('changes its licenses, but not what is their own, and not revoked ones', async () => {
    const { client } = sold;
    const code = newCode();
    await client.policies.create({ code, maxNodes: 5, durationMs: DAY_MS });
    const { license: plain } = await sold.sell({ policy: code });
    const { license: own } = await sold.sell({ policy: code, maxNodes: 2, expiresAtMs: Date.now() + DAY_MS });
    const { license: revoked } = await sold.sell({ policy: code });
    await client.changeLicense(revoked.id, 'revoke');
    const last = (await auditLog(client)).at(-1)?.sequence;
    await client.policies.update(code, { maxNodes: 9, durationMs: 2 * DAY_MS, overage: '2x' });
    const [plainNow, ownNow, revokedNow] = await Promise.all(
      [plain, own, revoked].map(({ id }) => client.license(id)),
    );
    expect(plainNow).toMatchObject({
      ...{ maxNodes: 9, overage: '2x', expiresAtMs: plain.createdAtMs + 2 * DAY_MS, epoch: plain.epoch + 1 },
    });
    expect(ownNow).toMatchObject({
      ...{ maxNodes: 2, overage: '2x', expiresAtMs: own.expiresAtMs, epoch: own.epoch + 1 },
    });
    expect(revokedNow).toMatchObject({ maxNodes: 5, epoch: revoked.epoch + 1, state: 'REVOKED' });
    expect(plainNow!.revision).toBe(ownNow!.revision);
    const events = await auditLog(client, last);
    expect(events.map(({ action, detail }) => [action, detail])).toMatchObject([
      ['policy.update', { code, licenses: 2 }],
    ]);
    await client.policies.update(code, { maxNodes: 9, overage: '2x' });
    expect((await client.license(plain.id)).epoch).toBe(plain.epoch + 1);
    await client.policies.update(code, { overage: null });
    expect((await client.license(plain.id)).overage).toBe('none');
  });

  it('that counts from the creation again gives those an end that had none yet', async () => {
    const code = newCode();
    await sold.client.policies.create({ code, durationMs: DAY_MS, expirationBasis: 'activation' });
    const { license } = await sold.sell({ policy: code });
    expect(license.expiresAtMs).toBeNull();
    await sold.client.policies.update(code, { expirationBasis: 'creation' });
    expect((await sold.client.license(license.id)).expiresAtMs).toBe(license.createdAtMs + DAY_MS);
  });

  it('that counts from something else does so for licenses with nodes too, as a license that is changed itself', async () => {
    const { client } = sold;
    const code = newCode();
    await client.policies.create({ code, durationMs: DAY_MS, expirationBasis: 'activation' });
    const startsAtMs = Date.now() - DAY_MS / 2;
    const ownEnd = Date.now() + 9 * DAY_MS;
    const sales = [{}, { startsAtMs }, { expiresAtMs: ownEnd }];
    const licenses = await Promise.all(sales.map((terms) => sold.sell({ policy: code, ...terms })));
    for (const { licenseKey } of licenses) (await activateNode(server, licenseKey)).close();
    await client.policies.update(code, { expirationBasis: 'creation' });
    const now = await Promise.all(licenses.map(({ license }) => client.license(license.id)));
    const fromCreation = licenses.map(({ license }) => license.createdAtMs + DAY_MS);
    expect(now.map(({ expiresAtMs }) => expiresAtMs)).toEqual([fromCreation[0], fromCreation[1], ownEnd]);
    for (const { id, epoch, expiresAtMs } of now) {
      // Tags void no lease, and surely move no end.
      expect(await client.updateLicense(id, { tags: ['x'] })).toMatchObject({ epoch, expiresAtMs });
    }
  });

  it('that counts from the first node leaves the term of a license without any still to begin', async () => {
    const { client } = sold;
    const code = newCode();
    await client.policies.create({ code, durationMs: DAY_MS });
    const { license, licenseKey } = await sold.sell({ policy: code });
    const { license: own, licenseKey: ownKey } = await sold.sell({ durationMs: DAY_MS });
    const { license: held, licenseKey: heldKey } = await sold.sell({ policy: code });
    (await activateNode(server, heldKey)).close();
    await client.policies.update(code, { expirationBasis: 'activation' });
    await client.updateLicense(own.id, { expirationBasis: 'activation' });
    for (const { id } of [license, own]) expect((await client.license(id)).expiresAtMs).toBeNull();
    expect((await client.license(held.id)).expiresAtMs).toBe(held.expiresAtMs);
    for (const key of [licenseKey, ownKey]) (await activateNode(server, key)).close();
    for (const { id, expiresAtMs } of [license, own]) {
      expect((await client.license(id)).expiresAtMs).toBeGreaterThan(expiresAtMs!);
    }
  });
});

describe('a license', () => {
  it('takes terms of its own, and gives them back', async () => {
    const { client } = sold;
    const code = newCode();
    await client.policies.create({ code, maxNodes: 5, maxConcurrent: 3, durationMs: DAY_MS });
    const { license } = await sold.sell({ policy: code });
    const expiresAtMs = Date.now() + 9 * DAY_MS;
    const set = { maxNodes: 8, maxConcurrent: 'unlimited', expiresAtMs } as const;
    expect(await client.updateLicense(license.id, set)).toMatchObject({
      ...{ maxNodes: 8, maxConcurrent: null, expiresAtMs, epoch: license.epoch + 1 },
      ownTerms: ['expiresAtMs', 'maxConcurrent', 'maxNodes'],
    });
    expect((await client.updateLicense(license.id, set)).epoch).toBe(license.epoch + 1);
    expect((await client.updateLicense(license.id, { expiresAtMs: 'never' })).expiresAtMs).toBeNull();
    const back = { maxNodes: null, maxConcurrent: null, expiresAtMs: null };
    expect(await client.updateLicense(license.id, back)).toMatchObject({
      ...{ maxNodes: 5, maxConcurrent: 3, expiresAtMs: license.createdAtMs + DAY_MS, ownTerms: [] },
    });
    expect(await client.updateLicense(license.id, { policy: null })).toMatchObject({
      ...{ policyCode: null, maxNodes: 3, maxConcurrent: null, expiresAtMs: null },
    });
  });

  it.each([
    [{ startsAtMs: 2000, expiresAtMs: 1000 }, 'USAGE_INVALID'],
    [{ maxNodes: 0 }, 'USAGE_INVALID'],
    [{ policy: 'nothing' }, 'STATE_NOT_FOUND'],
    [{ versionConstraint: 'newest' }, 'USAGE_INVALID'],
    [{ epoch: 9 }, 'USAGE_INVALID'],
  ])('is not changed to %j', async (update, code) => {
    const { license } = await sold.sell();
    await expect(sold.client.updateLicense(license.id, update as LicenseUpdate)).rejects.toMatchObject({
      code,
    });
    expect(await sold.client.license(license.id)).toEqual(license);
  });

  it('is prolonged from its end, or from now when that is past', async () => {
    const { client } = sold;
    const { license } = await sold.sell({ durationMs: DAY_MS });
    const renewed = await client.renewLicense(license.id);
    expect(renewed).toMatchObject({ expiresAtMs: license.expiresAtMs! + DAY_MS, epoch: license.epoch + 1 });
    await client.updateLicense(license.id, { expiresAtMs: 1000 });
    const before = Date.now();
    const late = await client.renewLicense(license.id, 2 * DAY_MS);
    expect(late.expiresAtMs).toBeGreaterThanOrEqual(before + 2 * DAY_MS);
    const { license: open } = await sold.sell();
    await expect(client.renewLicense(open.id, DAY_MS)).rejects.toMatchObject({ code: 'STATE_PRECONDITION' });
    const { license: ends } = await sold.sell({ expiresAtMs: Date.now() + DAY_MS });
    await expect(client.renewLicense(ends.id)).rejects.toMatchObject({
      message: expect.stringContaining('no duration') as string,
    });
  });

  it('is prolonged once when the answer is lost', async () => {
    const { license } = await sold.sell({ durationMs: DAY_MS });
    const renew = () =>
      fetch(`${server.adminUrl}/v1/licenses/${license.id}:renew`, {
        method: 'POST',
        headers: { authorization: `Bearer ${server.adminToken}`, 'idempotency-key': license.id },
      });
    expect([(await renew()).status, (await renew()).status]).toEqual([200, 200]);
    expect((await sold.client.license(license.id)).expiresAtMs).toBe(license.expiresAtMs! + DAY_MS);
  });
});

describe('a trial', () => {
  it('begins with the first node, and there is one for each customer and product', async () => {
    const { client, productCode: product } = sold;
    const code = newCode();
    const terms = { durationMs: DAY_MS, expirationBasis: 'activation' } as const;
    await client.policies.create({ code, isTrial: true, ...terms });
    const { license, licenseKey } = await sold.sell({ policy: code });
    expect(license).toMatchObject({ isTrial: true, expiresAtMs: null });
    (await activateNode(server, licenseKey)).close();
    expect((await client.license(license.id)).expiresAtMs).toBeGreaterThan(license.createdAtMs);
    await client.changeLicense(license.id, 'revoke');
    await client.policies.create({ code: `${code}-again`, isTrial: true, ...terms });
    for (const policy of [code, `${code}-again`]) {
      await expect(sold.sell({ policy })).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
    }
    const { license: other } = await sold.sell();
    await expect(client.updateLicense(other.id, { policy: code })).rejects.toMatchObject({
      code: 'STATE_CONFLICT',
    });
    const { id: customer } = await client.createCustomer({ name: code });
    expect((await client.createLicense({ customer, product, policy: code })).license.isTrial).toBe(true);
  });

  it('is one when several are asked for at once', async () => {
    const { client, productCode: product } = sold;
    const code = newCode();
    await client.policies.create({ code, isTrial: true });
    const { id: customer } = await client.createCustomer({ name: code });
    const asked = await Promise.allSettled(
      [1, 2, 3].map(() => client.createLicense({ customer, product, policy: code })),
    );
    expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });
});

it('a license of before there were policies owns all of its terms', async () => {
  const first = await startKeyServer();
  const product = await createSoldProduct(first);
  const { license } = await product.sell({ maxNodes: 8, expiresAtMs: Date.now() + DAY_MS });
  await first.stop();
  await undoMigrations(first.dataDirectory, '0010-audit-by-target');
  const second = await startKeyServer({ dataDirectory: first.dataDirectory });
  const client = adminClient(second);
  const now = await client.license(license.id);
  // Terms that came later; there were none to own.
  const later: readonly string[] = ['connectivityGraceMs', 'offlineMaxMs', 'renewAfterPercent'];
  const terms = TERM_NAMES.filter((name) => !later.includes(name));
  expect(now.ownTerms).toEqual(['expiresAtMs', ...terms].sort());
  expect(now).toMatchObject({
    maxNodes: 8,
    expiresAtMs: license.expiresAtMs,
    policyCode: null,
    overage: 'none',
  });
  const code = newCode();
  await client.policies.create({ code, maxNodes: 20 });
  const update = { policy: code, maxConcurrent: null };
  expect(await client.updateLicense(license.id, update)).toMatchObject({ maxNodes: 8, policyCode: code });
  expect((await client.updateLicense(license.id, { maxNodes: null })).maxNodes).toBe(20);
  await second.dispose();
});

/** The longest life of offline bundles: a term of policies and licenses. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DEFAULT_OFFLINE_MS, MAX_OFFLINE_MS, MIN_OFFLINE_MS } from '#src/base/limits.ts';
import { DAY_MS, HOUR_MS } from '#src/base/units.ts';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { createNodeKey } from '../fakes/licensed-node.ts';
import { offlineRequest } from '../fakes/offline-node.ts';
import { undoMigrations } from '../fakes/old-database.ts';
import { type SoldProduct, adminClient, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let request: string;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  request = offlineRequest(await createNodeKey());
});

afterAll(() => server.dispose());

const sell = async (terms: Partial<LicenseRequest>) => (await sold.sell(terms)).license;

/** How long the bundle lives that is made. */
async function lifeUnder(licenseId: string, lifeMs?: number): Promise<number> {
  const { bundles } = await sold.client.checkOut(licenseId, { requests: [request], lifeMs });
  return bundles[0]!.expiresAtMs - bundles[0]!.createdAtMs;
}

const newPolicy = async (offlineMaxMs: number): Promise<string> => {
  const code = `site-${randomBytes(4).toString('hex')}`;
  await sold.client.policies.create({ code, offlineMaxMs });
  return code;
};

describe('the longest life of offline bundles', () => {
  test('is a year where nothing is said, and what a license says else', async () => {
    const plain = await sell({});
    expect(plain.offlineMaxMs).toBeNull();
    expect(await lifeUnder(plain.id)).toBe(DEFAULT_OFFLINE_MS);
    expect(await lifeUnder(plain.id, MAX_OFFLINE_MS)).toBe(MAX_OFFLINE_MS);
    const short = await sell({ offlineMaxMs: 7 * DAY_MS });
    expect(await lifeUnder(short.id)).toBe(7 * DAY_MS);
    expect(await lifeUnder(short.id, HOUR_MS)).toBe(HOUR_MS);
    expect(await lifeUnder(short.id, 7 * DAY_MS)).toBe(7 * DAY_MS);
    const long = await sell({ offlineMaxMs: 90 * DAY_MS });
    expect(await lifeUnder(long.id)).toBe(DEFAULT_OFFLINE_MS);
    expect(await lifeUnder(long.id, 90 * DAY_MS)).toBe(90 * DAY_MS);
  });

  test('is never exceeded, and what is refused leaves nothing behind', async () => {
    const { client } = sold;
    const { id } = await sell({ offlineMaxMs: 7 * DAY_MS });
    await expect(lifeUnder(id, 7 * DAY_MS + 1)).rejects.toMatchObject({
      code: 'USAGE_INVALID',
      message: expect.stringContaining('at most 7d') as string,
    });
    const { id: none } = await sell({ offlineMaxMs: 0 });
    for (const lifeMs of [undefined, MIN_OFFLINE_MS]) {
      await expect(lifeUnder(none, lifeMs)).rejects.toMatchObject({ code: 'STATE_PRECONDITION' });
    }
    for (const refused of [id, none]) {
      expect(await client.offlineBundles(refused)).toEqual([]);
      expect((await client.license(refused)).usedNodes).toBe(0);
    }
  });

  test('is given by a policy, and a license has its own', async () => {
    const { client } = sold;
    const code = await newPolicy(7 * DAY_MS);
    expect((await client.policies.show(code)).offlineMaxMs).toBe(7 * DAY_MS);
    const license = await sell({ policy: code });
    expect(license).toMatchObject({ offlineMaxMs: 7 * DAY_MS, ownTerms: [] });
    const own = await sell({ policy: code, offlineMaxMs: 'unlimited' });
    expect(own).toMatchObject({ offlineMaxMs: null, ownTerms: ['offlineMaxMs'] });
    expect([await lifeUnder(license.id), await lifeUnder(own.id)]).toEqual([7 * DAY_MS, DEFAULT_OFFLINE_MS]);
    const { epoch } = await client.license(license.id);
    await client.policies.update(code, { offlineMaxMs: DAY_MS });
    expect((await client.license(license.id)).epoch).toBe(epoch + 1);
    expect((await client.offlineBundles(license.id)).map(({ state }) => state)).toEqual(['VOID']);
    expect([await lifeUnder(license.id), await lifeUnder(own.id)]).toEqual([DAY_MS, DEFAULT_OFFLINE_MS]);
    await client.updateLicense(license.id, { offlineMaxMs: MAX_OFFLINE_MS });
    expect(await lifeUnder(license.id, MAX_OFFLINE_MS)).toBe(MAX_OFFLINE_MS);
    await client.updateLicense(license.id, { offlineMaxMs: null });
    expect(await lifeUnder(license.id)).toBe(DAY_MS);
    await client.policies.update(code, { offlineMaxMs: null });
    expect((await client.license(license.id)).offlineMaxMs).toBeNull();
  });

  test.each([-1, 1, MIN_OFFLINE_MS - 1, MAX_OFFLINE_MS + 1, 3_600_000.5, '30d', 'never'])(
    'cannot be %s',
    async (wrong) => {
      const { client } = sold;
      const offlineMaxMs = wrong as number;
      const license = await sell({});
      const refused = [
        sell({ offlineMaxMs }),
        client.updateLicense(license.id, { offlineMaxMs }),
        newPolicy(offlineMaxMs),
      ];
      for (const answer of await Promise.allSettled(refused)) {
        expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'USAGE_INVALID' } });
      }
      expect(await client.license(license.id)).toEqual(license);
    },
  );
});

test('licenses and policies of before it have none', async () => {
  const first = await startKeyServer();
  const product = await createSoldProduct(first);
  await product.client.policies.create({ code: 'old' });
  const { license } = await product.sell({ policy: 'old' });
  await first.stop();
  await undoMigrations(first.dataDirectory, '0038-lease-by-node');
  const second = await startKeyServer({ dataDirectory: first.dataDirectory });
  const client = adminClient(second);
  expect(await client.license(license.id)).toEqual(license);
  expect((await client.policies.show('old')).offlineMaxMs).toBeNull();
  await client.policies.update('old', { offlineMaxMs: 0 });
  expect((await client.license(license.id)).offlineMaxMs).toBe(0);
  await second.dispose();
});

test('the commands sell it, tell it, and say in one line what is wrong', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-offline-max-'));
  try {
    const create = ['license', 'create', '--customer', sold.customerId, '--product', sold.productCode];
    const created = await adminCommand(server, ...create, '--offline-max', '90d');
    const [id] = /lic_[0-9a-f-]+/u.exec(created) ?? [''];
    const show = () => adminCommand(server, 'license', 'show', id);
    const update = (...terms: string[]) => adminCommand(server, 'license', 'update', id, ...terms);
    expect(await show()).toMatch(/^offline +bundles up to 90d$/mu);
    const path = join(directory, 'a.request');
    await writeFile(
      path,
      JSON.stringify({ kind: 'latchkey-offline-request', version: 1, requests: [request] }),
    );
    const bundle = join(directory, 'a.bundle');
    const checkOut = ['license', 'check-out', id, path, '-o', bundle];
    expect(await adminCommand(server, ...checkOut, '--expires', '91d')).toMatch(
      /USAGE_INVALID: license \S+ allows offline bundles of at most 90d, not 91d; give --expires 90d or less/u,
    );
    await update('--offline-max', '0s');
    expect(await show()).toMatch(/^offline +no bundles$/mu);
    expect(await adminCommand(server, ...checkOut)).toMatch(
      /STATE_PRECONDITION: license \S+ allows no offline bundles; /u,
    );
    await update('--inherit', 'offline-max');
    expect(await show()).not.toMatch(/^offline/mu);
    expect(await adminCommand(server, ...checkOut)).toContain('holds 1 offline bundle');
    for (const wrong of ['59m', '366d', '1', 'none']) {
      expect(await update('--offline-max', wrong)).toMatch(/USAGE_INVALID: .*give a /u);
    }
    expect(await update('--offline-max', '366d')).toContain(
      'give a span from 1h to 365d, 0s for no bundles, or unlimited',
    );
  } finally {
    await rm(directory, { recursive: true });
  }
});

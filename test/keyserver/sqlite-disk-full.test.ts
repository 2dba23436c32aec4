/** A full disk: rights are taken away all the same, on space that is kept for it, and nothing else is written. */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { SpaceReserve } from '../../keyserver/db/space-reserve.ts';
import { RESERVE_BYTES, RESERVE_STEP_BYTES } from '../../keyserver/limits.ts';
import { KeyServerExit, type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { metricValue } from '../fakes/prometheus-text.ts';
import { mountSmallDisk } from '../fakes/small-disk.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const PATIENTLY = { timeout: 60_000 };
const KEPT_FOR_REVOCATIONS = { code: 'STORAGE_FULL', message: expect.stringContaining('kept for') as string };

const disk = mountSmallDisk('16m');
const directory = join(disk?.directory ?? '', 'data');
let server: TestKeyServer;
let sold: SoldProduct;
let node: LicensedNode;
let licenseIds: string[];

const start = async () => {
  server = await startKeyServer({ dataDirectory: directory, args: ['--metrics-listen=127.0.0.1:0'] });
};
const client = () => adminClient(server);
const reserveBytes = async () => (await stat(join(directory, 'latchkey.reserve'))).size;
const metric = async (name: string) =>
  metricValue(await (await fetch(`http://${server.metricsAddress ?? ''}/metrics`)).text(), name);
const readiness = async () => {
  const response = await fetch(`${server.adminUrl}/readyz`);
  return [response.status, await response.json()];
};
/** Sells until there is no room for it. */
const sellAll = async (): Promise<unknown> => {
  try {
    for (;;) licenseIds.push((await sold.sell()).license.id);
  } catch (error) {
    return error;
  }
};
const revocations = async () =>
  (await auditLog(client())).filter(({ action }) => action === 'license.revoke').map(({ target }) => target);

beforeAll(async () => {
  if (disk === undefined) return;
  await start();
  sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  licenseIds = [license.id];
  node = await activateNode(server, licenseKey);
  for (let count = 0; count < 4; count += 1) licenseIds.push((await sold.sell()).license.id);
});

afterAll(async () => {
  if (disk === undefined) return;
  node.close();
  await server.stop();
  disk.remove();
});

describe.skipIf(disk === undefined)('a full disk (needs the right to mount a small one)', () => {
  it('is announced early', async () => {
    expect(await reserveBytes()).toBe(RESERVE_BYTES);
    expect(await readiness()).toEqual([200, { status: 'ready', disk: 'LOW' }]);
    expect(server.log()).toMatch(/"code":"DISK_LOW","freeBytes":\d+,.*filling up/u);
    expect(await metric('latchkey_server_disk_low')).toBe(1);
    expect(await metric('latchkey_server_disk_full')).toBe(0);
    expect(await metric('latchkey_server_disk_free_bytes')).toBeLessThan(16 * 1024 * 1024 - RESERVE_BYTES);
  });

  it('takes rights away, writes it to the audit log, and does nothing else', async () => {
    await disk!.fill('ballast');
    expect(await sellAll()).toMatchObject({ code: 'STORAGE_FULL' });
    expect((await sold.client.licenses()).map(({ id }) => id)).toEqual(licenseIds.toSorted());
    await node.acquire(sold.image).catch(() => undefined);
    expect(await reserveBytes()).toBe(RESERVE_BYTES);

    await sold.client.changeLicense(licenseIds[0]!, 'revoke', 'stolen');
    expect(await revocations()).toEqual([licenseIds[0]]);
    // What is over of the step is not for others.
    expect(await reserveBytes()).toBe(RESERVE_BYTES - RESERVE_STEP_BYTES);
    await expect(sold.sell()).rejects.toMatchObject(KEPT_FOR_REVOCATIONS);
    await expect(node.acquire(sold.image)).rejects.toMatchObject(KEPT_FOR_REVOCATIONS);
    await expect(sold.client.changeLicense(licenseIds[1]!, 'suspend')).resolves.toMatchObject({
      state: 'SUSPENDED',
    });
    await expect(sold.client.changeLicense(licenseIds[1]!, 'reinstate')).rejects.toMatchObject(
      KEPT_FOR_REVOCATIONS,
    );
    await sold.client.changeNode(node.activation.nodeId, 'ban');
    expect(await readiness()).toEqual([200, { status: 'ready', disk: 'FULL' }]);
    expect(await metric('latchkey_server_disk_full')).toBe(1);
    await expect.poll(() => server.log(), PATIENTLY).toContain('"code":"DISK_FULL"');
    // Everything up to here can be put under a checkpoint.
    const { checkpoint } = await sold.client.auditCheckpoint();
    expect(checkpoint).toContain(`\n${(await auditLog(sold.client)).length}\n`);
  });

  it('takes rights away while others write at once and somebody takes what was given back', async () => {
    const before = await reserveBytes();
    const greedy = disk!.fill('greedy');
    const outcomes = await Promise.allSettled([
      sold.client.changeLicense(licenseIds[2]!, 'revoke'),
      ...Array.from({ length: 8 }, () => sold.sell()),
      sold.client.changeLicense(licenseIds[3]!, 'revoke'),
    ]);
    await greedy;
    await disk!.fill('greedy-too');
    await sold.client.changeLicense(licenseIds[4]!, 'revoke');
    const sales = Array.from({ length: 8 }, () => 'rejected');
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', ...sales, 'fulfilled']);
    expect((await revocations()).toSorted()).toEqual(
      [0, 2, 3, 4].map((index) => licenseIds[index]!).toSorted(),
    );
    expect(await reserveBytes()).toBeLessThanOrEqual(before);
    expect(await reserveBytes()).toBeGreaterThan(0);
  });

  it('does so after a crash and a new start on the full disk', async () => {
    await server.kill();
    await disk!.fill('rest');
    await start();
    await client().changeLicense(licenseIds[1]!, 'revoke');
    expect(await revocations()).toContain(licenseIds[1]);
    expect(await readiness()).toEqual([200, { status: 'ready', disk: 'FULL' }]);
  });

  it('is over once there is room, without a restart', async () => {
    for (const name of ['ballast', 'greedy', 'greedy-too', 'rest'])
      await rm(join(disk!.directory, name), { force: true });
    sold = { ...sold, client: client() };
    const customer = await client().createCustomer({ name: 'after it' });
    expect(await reserveBytes()).toBe(RESERVE_BYTES);
    expect(await client().customers()).toContainEqual(customer);
    expect((await client().licenses()).map(({ id }) => id)).toEqual(licenseIds.toSorted());
    await expect.poll(() => server.log(), PATIENTLY).toContain('"code":"DISK_LOW"');
    await verifyAuditLog(client().auditEvents());
  });

  it('at the first start is one line as well', async () => {
    const full = mountSmallDisk('64k');
    try {
      const result = await startKeyServer({ dataDirectory: full!.directory }).catch(
        (error: unknown) => error,
      );
      expect(result).toBeInstanceOf(KeyServerExit);
      expect((result as KeyServerExit).stderr).toMatch(/^latchkey: STORAGE_FULL: .+; .+\n$/u);
      expect((result as KeyServerExit).status).toBe(74);
    } finally {
      full!.remove();
    }
  });

  it('leaves a reserve that cannot be filled as it was, and a refusal that says what to do', async () => {
    const small = mountSmallDisk('4m');
    try {
      const reserve = await SpaceReserve.open(small!.directory);
      expect(reserve.isClosed).toBe(false);
      await reserve.putInForce();
      expect(reserve.isClosed).toBe(true);
      expect(reserve.giveBack()).toBe(false);
      small!.grow('32m');
      expect(await reserve.fill()).toBe(true);
      expect(reserve.isClosed).toBe(false);
      await rm(join(small!.directory, 'latchkey.reserve'));
      expect(reserve.giveBack()).toBe(false);
      expect(reserve.isClosed).toBe(true);
      expect(reserve.refusal()).toBeInstanceOf(LatchkeyError);
    } finally {
      small!.remove();
    }
  });
});

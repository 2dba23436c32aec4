/** The disk of PostgreSQL is full: said in the key server's words, and over once there is room. */
import { chmodSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { startKeyServer } from '../../lab/keyserver.ts';
import { postgresSkipReason, startPostgres } from '../../lab/postgres.ts';
import { mountSmallDisk } from '../fakes/small-disk.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

const PATIENTLY = { timeout: 60_000 };
/** Left for the next pages of tables; the log of writes ahead has its segments already. */
const ROOM_BYTES = 256 * 1024;

const disk = postgresSkipReason() === null ? mountSmallDisk('160m') : undefined;
afterAll(() => disk?.remove());

describe.skipIf(disk === undefined)(
  'a full disk of PostgreSQL (needs the right to mount a small one)',
  () => {
    it('is refused in one code, loses nothing that was acknowledged, and is over once there is room', async () => {
      chmodSync(disk!.directory, 0o755);
      const postgres = await startPostgres({ parent: disk!.directory });
      const env = { ...process.env, LATCHKEY_DATABASE: await postgres.createDatabase('latchkey') };
      const server = await startKeyServer({ env });
      const sold = await createSoldProduct(server);
      const acknowledged = [(await sold.sell()).license.id];
      await disk!.fill('ballast', ROOM_BYTES);
      const fill = async (): Promise<unknown> => {
        try {
          for (;;) acknowledged.push((await sold.sell()).license.id);
        } catch (error) {
          return error;
        }
      };
      expect(await fill()).toMatchObject({ code: 'STORAGE_FULL' });
      expect((await sold.client.licenses()).map(({ id }) => id)).toEqual(acknowledged.toSorted());
      await rm(join(disk!.directory, 'ballast'));
      const sell = () =>
        sold.sell().then(
          ({ license }) => license.id,
          () => '',
        );
      let more = '';
      await expect.poll(async () => (more = await sell()), PATIENTLY).toMatch(/^lic_/u);
      acknowledged.push(more);
      const kept = (await sold.client.licenses()).map(({ id }) => id);
      expect(acknowledged.filter((id) => !kept.includes(id))).toEqual([]);
      await verifyAuditLog(sold.client.auditEvents());
      expect(await server.stop()).toBe(0);
      await server.dispose();
      await postgres.dispose();
    });
  },
);

import { afterAll, describe, expect, it } from 'vitest';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { KeyServerExit, startKeyServer } from '../../lab/keyserver.ts';
import { mountSmallDisk } from '../fakes/small-disk.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

const disk = mountSmallDisk('1536k');

afterAll(() => disk?.remove());

describe.skipIf(disk === undefined)('a full disk (needs the right to mount a small one)', () => {
  it('is said in one line, loses nothing that was acknowledged, and is over once there is room', async () => {
    const server = await startKeyServer({ dataDirectory: disk!.directory });
    const sold = await createSoldProduct(server);
    const acknowledged: string[] = [];
    const fill = async (): Promise<unknown> => {
      try {
        for (;;) acknowledged.push((await sold.sell()).license.id);
      } catch (error) {
        return error;
      }
    };
    expect(await fill()).toMatchObject({ code: 'STORAGE_FULL' });
    expect((await sold.client.licenses()).map(({ id }) => id)).toEqual(acknowledged.toSorted());
    disk!.grow('16m');
    acknowledged.push((await sold.sell()).license.id);
    expect((await sold.client.licenses()).map(({ id }) => id)).toEqual(acknowledged.toSorted());
    await verifyAuditLog(sold.client.auditEvents());
    expect(await server.stop()).toBe(0);
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
});

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { KeyServerExit, startKeyServer } from '../../lab/keyserver.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

/** A disk of its own; null where this user may not mount one. */
function mountSmallDisk(size: string): string | null {
  const directory = mkdtempSync(join(tmpdir(), 'latchkey-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', directory], { stdio: 'ignore' });
    return directory;
  } catch {
    rmSync(directory, { recursive: true });
    return null;
  }
}

const disk = mountSmallDisk('768k');

afterAll(() => {
  if (disk === null) return;
  execFileSync('umount', ['--lazy', disk]);
  rmSync(disk, { recursive: true, force: true });
});

describe.skipIf(disk === null)('a full disk (needs the right to mount a small one)', () => {
  it('is said in one line, loses nothing that was acknowledged, and is over once there is room', async () => {
    const server = await startKeyServer({ dataDirectory: disk! });
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
    execFileSync('mount', ['-o', 'remount,size=16m', disk!]);
    acknowledged.push((await sold.sell()).license.id);
    expect((await sold.client.licenses()).map(({ id }) => id)).toEqual(acknowledged.toSorted());
    await verifyAuditLog(sold.client.auditEvents());
    expect(await server.stop()).toBe(0);
  });

  it('at the first start is one line as well', async () => {
    const full = mountSmallDisk('64k');
    try {
      const result = await startKeyServer({ dataDirectory: full! }).catch((error: unknown) => error);
      expect(result).toBeInstanceOf(KeyServerExit);
      expect((result as KeyServerExit).stderr).toMatch(/^latchkey: STORAGE_FULL: .+; .+\n$/u);
      expect((result as KeyServerExit).status).toBe(74);
    } finally {
      execFileSync('umount', ['--lazy', full!]);
      rmSync(full!, { recursive: true, force: true });
    }
  });
});

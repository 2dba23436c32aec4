/** An encrypted volume with what this machine has: gocryptfs, or dm-crypt where the kernel knows it. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { storeFacts } from '../../../shim/install/machine-facts.ts';
import { SnapshotDirectories } from '../../../shim/snapshotter/directories.ts';
import { encryptedVolume, removeVolume } from '../../../shim/snapshotter/encrypted-volume.ts';
import { mountAt } from '../../../shim/snapshotter/mount-table.ts';
import type { PlaintextStore } from '../../../shim/snapshotter/plaintext-store.ts';
import { choosePlaintextStore } from '../../../shim/snapshotter/store-choice.ts';
import { storeSkipReason } from '../../fakes/store-skip-reason.ts';
import { swapList } from '../../fakes/swap-lists.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const skip = storeSkipReason('encrypted-volume');
const temporary = temporaryDirectory();
const MEBIBYTE = 1024 * 1024;
const SECRET = 'ACME-PROPRIETARY-ALGORITHM';

describe.skipIf(skip !== undefined)(`an encrypted volume${skip === undefined ? '' : ` (${skip})`}`, () => {
  let directory: string;
  let file: string;
  let store: PlaintextStore;

  beforeEach(() => {
    directory = join(temporary(), 'plaintext');
    file = join(temporary(), 'plaintext.volume');
    store = encryptedVolume({ directory, file, capacityBytes: 32 * MEBIBYTE });
  });
  afterEach(() => store.close());

  function write(name: string): void {
    writeFileSync(join(directory, name), SECRET.repeat(1000));
  }

  test('has its size, is private, and its file holds neither content nor names', async () => {
    expect(await store.open()).toEqual({ writableDirectory: undefined });
    write('a-telling-name');
    execFileSync('sync', ['--file-system', directory]);
    const raw = readFileSync(file);
    expect(raw.length).toBe(32 * MEBIBYTE);
    expect(raw.includes(SECRET)).toBe(false);
    expect(raw.includes('a-telling-name')).toBe(false);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    const { capacityBytes, usedBytes, neverSwapped } = await store.state();
    expect(capacityBytes).toBeLessThan(32 * MEBIBYTE);
    expect(capacityBytes).toBeGreaterThan(24 * MEBIBYTE);
    expect(usedBytes).toBeLessThan(MEBIBYTE);
    expect(neverSwapped).toBe(true);
    expect(() => writeFileSync(join(directory, 'large'), Buffer.alloc(40 * MEBIBYTE))).toThrow('ENOSPC');
  });

  test('keeps what is in it when the agent starts again', async () => {
    await store.open();
    write('layer');
    await encryptedVolume({ directory, file, capacityBytes: 32 * MEBIBYTE }).open();
    expect(readFileSync(join(directory, 'layer'), 'utf8')).toContain(SECRET);
  });

  test('is gone for good when it is closed, however often', async () => {
    await store.open();
    write('layer');
    await store.close();
    await store.close();
    expect(existsSync(file)).toBe(false);
    expect(readdirSync(directory)).toEqual([]);
    await store.open();
    expect(readdirSync(directory)).toEqual([]);
  });

  test('whose key is gone is made anew: after a reboot, and when its program has died', async () => {
    await store.open();
    write('layer');
    execFileSync('sh', ['-c', 'umount --lazy "$1"; umount --lazy "$1-cipher" || true', 'sh', directory]);
    await store.open();
    expect(readdirSync(directory)).toEqual([]);
    if ((await mountAt(directory))?.fileSystem !== 'fuse.gocryptfs') return;
    for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const line = readProcess(entry);
      if (line.includes('gocryptfs') && line.includes(directory)) process.kill(Number(entry), 'SIGKILL');
    }
    while (existsSync(join(directory, '.'))) await new Promise((resolve) => setTimeout(resolve, 20));
    // What the doctor sees.
    expect((await storeFacts({ kind: store.kind, directory }, '')).mount).toBe('dead');
    await store.open();
    expect((await storeFacts({ kind: store.kind, directory }, '')).mount).toBe('answers');
    write('layer');
    expect(readdirSync(directory)).toEqual(['layer']);
  });

  test('makes room for a store of another kind, and takes its place', async () => {
    await store.open();
    write('layer');
    const memory = choosePlaintextStore(
      {
        kind: 'memory',
        directory,
        memoryCapacity: '4m',
        volumeCapacityBytes: 0,
        volumeFile: file,
      },
      () => undefined,
    );
    await memory.open();
    expect((await mountAt(directory))?.fileSystem).toBe('tmpfs');
    expect(readdirSync(directory)).toEqual([]);
    expect(existsSync(file)).toBe(false);
    write('in-memory');
    await memory.open();
    await removeVolume({ directory, file });
    expect(readdirSync(directory)).toEqual(['in-memory']);
    await store.open();
    expect(readdirSync(directory)).toEqual([]);
  });

  test('that the disk has no room for says so, and leaves nothing', async () => {
    const large = encryptedVolume({ directory, file, capacityBytes: 1024 ** 5 });
    await expect(large.open()).rejects.toMatchObject({ code: 'STORAGE_FULL' });
    expect(existsSync(file)).toBe(false);
  });

  test('whose key could be swapped out is neither made nor used again nor called safe once swap is on', async (context) => {
    const swaps = swapList(temporary(), 'partition');
    const swapping = encryptedVolume({ directory, file, capacityBytes: 32 * MEBIBYTE, swaps });
    await store.open();
    if ((await mountAt(directory))?.fileSystem !== 'fuse.gocryptfs')
      context.skip('this kernel has dm-crypt, which keeps its key out of swap');
    expect((await swapping.state()).neverSwapped).toBe(false);
    await expect(swapping.open()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('out of swap') as string,
    });
    expect(existsSync(file)).toBe(false);
    expect(await mountAt(directory)).toBeUndefined();
  });

  test('that overlayfs cannot write into lends containers a directory in memory', async () => {
    store = encryptedVolume({
      ...{ directory, file, capacityBytes: 32 * MEBIBYTE },
      canWrite: async () => false,
    });
    const { writableDirectory } = await store.open();
    expect(writableDirectory).toBe(`${directory}-written`);
    mkdirSync(join(temporary(), 'disk'));
    const directories = new SnapshotDirectories(
      { disk: join(temporary(), 'disk'), memory: directory },
      { writableDirectory },
    );
    const container = { id: 3, store: 'memory', layer: null } as const;
    directories.create(container, undefined);
    directories.create(container, undefined);
    writeFileSync(join(directories.files(container), 'written'), SECRET);
    expect(existsSync(join(`${directory}-written`, '3', 'fs', 'written'))).toBe(true);
    expect(directories.exists(container)).toBe(true);
    expect((await directories.usage(container)).inodes).toBe(1);
    await directories.remove(container);
    expect(readdirSync(`${directory}-written`)).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
    directories.create(container, undefined);
    await directories.removeOrphans(() => new Set());
    expect(readdirSync(`${directory}-written`)).toEqual([]);
  });
});

function readProcess(id: string): string {
  try {
    return readFileSync(`/proc/${id}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** The disk under the snapshotter is full: said, survived, and over without a restart. */
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { toLatchkeyError } from '#src/base/errors.ts';
import { type SmallDisk, mountSmallDisk } from '../../fakes/small-disk.ts';
import { fakeLayer, upperDirectory } from '../../fakes/scripted-gate.ts';
import { openJournal } from '../../../shim/snapshotter/journal.ts';
import { SnapshotterSite } from '../../fakes/snapshotter-site.ts';

const KIBIBYTE = 1024;
const probe = mountSmallDisk('64k');
probe?.remove();

let disk: SmallDisk;
let site: SnapshotterSite;

describe.skipIf(probe === undefined)('a full disk (needs the right to mount a small one)', () => {
  beforeEach(async () => {
    disk = mountSmallDisk('2m')!;
    site = await SnapshotterSite.open(disk.directory);
  });
  afterEach(() => {
    site.close();
    disk.remove();
  });

  function fill(): void {
    for (const size of [64 * KIBIBYTE, 4 * KIBIBYTE, 512]) {
      try {
        for (;;) appendFileSync(join(disk.directory, 'ballast'), Buffer.alloc(size));
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOSPC' });
      }
    }
  }

  /** Until one is refused. @returns the keys of those that were made, and the refusal */
  async function prepareMany(): Promise<{ keys: string[]; refusal: unknown }> {
    const keys: string[] = [];
    for (;;) {
      const key = site.key(`container-${keys.length}`);
      try {
        await site.snapshotter.prepare({ key, parent: '', labels: { filler: 'x'.repeat(4000) } });
        keys.push(key);
      } catch (error) {
        return { keys, refusal: error };
      }
    }
  }

  test('is not taken for a damaged journal by an agent that starts', () => {
    const path = join(disk.directory, 'of-an-earlier-run.db');
    openJournal(path).close();
    fill();
    expect(() => openJournal(path)).toThrow(expect.objectContaining({ code: 'STORAGE_FULL' }));
    disk.grow('8m');
    openJournal(path).close();
  });

  test('refuses what is new in words, keeps what there was, and goes on when there is room', async () => {
    fill();
    const { keys, refusal } = await prepareMany();
    expect(toLatchkeyError(refusal)).toMatchObject({ code: 'STORAGE_FULL' });
    expect(site.snapshotter.list().map(({ key }) => key)).toEqual(keys);
    disk.grow('8m');
    const { key, mounts } = await site.prepareLayer(fakeLayer('base', 'plain'));
    writeFileSync(join(upperDirectory(mounts), 'content'), 'of the layer');
    await site.snapshotter.commit(site.key('base'), key, {});
    site.restart();
    expect(site.snapshotter.list()).toHaveLength(keys.length + 1);
  });

  test('lets go of what is removed, and so makes its own room', async () => {
    const { key, mounts } = await site.prepareLayer(fakeLayer('large', 'plain'));
    writeFileSync(join(upperDirectory(mounts), 'content'), Buffer.alloc(256 * KIBIBYTE));
    const name = site.key('large');
    await site.snapshotter.commit(name, key, {});
    fill();
    await prepareMany();
    fill();
    await site.snapshotter.remove(name);
    await site.snapshotter.prepare({ key: site.key('after'), parent: '', labels: {} });
    site.restart();
    await site.snapshotter.cleanup();
    expect(site.snapshotter.list().map((snapshot) => snapshot.key)).not.toContain(name);
  });

  test('in the middle of a commit leaves an open snapshot, which can be removed or committed later', async () => {
    const { key, mounts } = await site.prepareLayer(fakeLayer('base', 'plain'));
    writeFileSync(join(upperDirectory(mounts), 'content'), 'of the layer');
    fill();
    await prepareMany();
    const labels = { filler: 'x'.repeat(100 * KIBIBYTE) };
    const refusal: unknown = await site.snapshotter
      .commit(site.key('base'), key, labels)
      .catch((error: unknown) => error);
    expect(toLatchkeyError(refusal)).toMatchObject({ code: 'STORAGE_FULL' });
    expect(site.snapshotter.stat(key).kind).toBe('active');
    rmSync(join(disk.directory, 'ballast'));
    const name = site.key('base');
    await site.snapshotter.commit(name, key, labels);
    const files = site.directories.files(site.snapshotter.stat(name));
    expect(readFileSync(join(files, 'content'), 'utf8')).toBe('of the layer');
  });
});

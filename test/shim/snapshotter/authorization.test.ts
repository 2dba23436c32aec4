import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { fakeLayer, gateRecord } from '../../fakes/scripted-gate.ts';
import { SnapshotterSite } from '../../fakes/snapshotter-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const denial = new LatchkeyError('DENIED_IMAGE_ALTERED', 'not what was released', { licenseId: 'lic-1' });

let site: SnapshotterSite;
beforeEach(async () => {
  site = await SnapshotterSite.open(directory());
});
afterEach(() => site.close());

/** The topmost snapshot of a plain base with an encrypted layer above. */
async function gatedTop(): Promise<string> {
  const base = await site.unpack(fakeLayer('base', 'plain'));
  return site.unpack(fakeLayer('app', 'encrypted'), base);
}

describe('a layer whose image is refused', () => {
  test('goes on under the key of another image that holds it, also when it is made again', async () => {
    const top = await gatedTop();
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: top, labels: {} });
    site.gate.takenOverBy = { ...gateRecord('app'), imageKeyId: 'key of another image' };
    await site.dropAll();
    await site.snapshotter.mounts(key);
    expect(site.snapshotter.stat(top).gate).toBe(site.gate.takenOverBy);
    expect(site.gate.opened.at(-1)?.encryptedIn).toEqual([site.gate.takenOverBy]);
    site.restart();
    expect(site.snapshotter.stat(top).gate?.imageKeyId).toBe('key of another image');
  });
});

describe('a start', () => {
  test('must be of a whole released image, which unpacking a layer is not', async () => {
    const top = await gatedTop();
    const above = await site.unpack(fakeLayer('more', 'plain'), top);
    expect(site.gate.started).toEqual([]);
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: above, labels: {} });
    expect(site.gate.started).toEqual([fakeLayer('more', 'plain').chainId]);
    site.gate.startDenial = denial;
    const request = { key: site.key('other'), parent: top, labels: {} };
    await expect(site.snapshotter.mounts(key)).rejects.toBe(denial);
    await expect(site.snapshotter.prepare(request)).rejects.toBe(denial);
    await expect(site.snapshotter.view(request)).rejects.toBe(denial);
    await site.unpack(fakeLayer('unpacked', 'plain'), top);
  });

  test('stands on the image below what a container wrote and was committed', async () => {
    const top = await gatedTop();
    const key = site.key('to-keep');
    await site.snapshotter.prepare({ key, parent: top, labels: {} });
    const kept = site.key('kept');
    await site.snapshotter.commit(kept, key, {});
    site.gate.started.length = 0;
    await site.snapshotter.prepare({ key: site.key('again'), parent: kept, labels: {} });
    expect(site.gate.started).toEqual([fakeLayer('app', 'encrypted').chainId]);
  });

  test('of a plain image asks nobody', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    site.gate.startDenial = denial;
    await site.snapshotter.prepare({ key: site.key('container'), parent: base, labels: {} });
    expect(site.gate.started).toEqual([]);
  });
});

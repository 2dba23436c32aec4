import { afterEach, beforeEach, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { fakeLayer } from '../../fakes/scripted-gate.ts';
import { SnapshotterSite } from '../../fakes/snapshotter-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
let site: SnapshotterSite;
let key: string;

beforeEach(async () => {
  site = await SnapshotterSite.open(directory());
  const top = await site.unpack(fakeLayer('app', 'encrypted'));
  key = site.key('container');
  await site.snapshotter.prepare({ key, parent: top, labels: {} });
});
afterEach(() => site.close());

test('a start is counted once for each Mounts with a container on the snapshot, and not before', async () => {
  await site.snapshotter.mounts(key);
  expect(site.gate.countedStarts).toEqual([]);
  site.gate.hasContainer = true;
  await site.snapshotter.mounts(key);
  await site.snapshotter.mounts(key);
  expect(site.gate.countedStarts).toEqual([key, key]);
});

test('a start whose layers could not be made is not counted', async () => {
  site.gate.hasContainer = true;
  await site.dropAll();
  site.gate.applyFailure = new LatchkeyError('STORAGE_FULL', 'no room');
  await expect(site.snapshotter.mounts(key)).rejects.toMatchObject({ code: 'STORAGE_FULL' });
  expect(site.gate.countedStarts).toEqual([]);
  site.gate.applyFailure = undefined;
  await site.snapshotter.mounts(key);
  expect(site.gate.countedStarts).toEqual([key]);
});

test('a start that cannot be counted gets no mounts', async () => {
  site.gate.hasContainer = true;
  site.gate.countDenial = new LatchkeyError('DENIED_OFFLINE_STARTS', 'all were used');
  await expect(site.snapshotter.mounts(key)).rejects.toBe(site.gate.countDenial);
});

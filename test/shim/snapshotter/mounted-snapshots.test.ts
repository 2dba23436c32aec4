import { expect, test } from 'vitest';
import { mountedSnapshots } from '../../../shim/snapshotter/mounted-snapshots.ts';
import { parseMountInfo } from '../../../shim/snapshotter/mount-table.ts';

const MOUNTS = parseMountInfo(
  [
    '1 0 8:1 / / rw - ext4 /dev/sda rw',
    '2 1 0:40 / /store rw - tmpfs latchkey rw,noswap',
    '3 2 7:0 / /store/5/fs ro - erofs /dev/loop0 ro',
    '4 2 7:1 / /store/6/fs ro - erofs /dev/loop1 ro',
    // A container, one with a directory that only looks alike, and bind mounts of a directory and of an image.
    '5 1 0:50 / /run/one rw - overlay overlay rw,lowerdir=/store/3/fs:/disk/4/fs,upperdir=/store/9/fs,workdir=/store/9/work',
    '6 1 0:51 / /run/two rw - overlay overlay rw,lowerdir=/store-of-others/11/fs:/disk/store/12/fs',
    '7 1 0:40 /13/fs /run/three ro - tmpfs latchkey rw',
    '8 1 7:1 / /run/four ro - erofs /dev/loop1 ro',
  ].join('\n'),
);

test('what is mounted elsewhere is in use, what is only packed is not', () => {
  expect([...mountedSnapshots(MOUNTS, '/store')].sort((left, right) => left - right)).toEqual([3, 6, 9, 13]);
});

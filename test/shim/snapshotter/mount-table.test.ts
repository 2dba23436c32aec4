import { describe, expect, test } from 'vitest';
import { mountAt, parseMountInfo } from '../../../shim/snapshotter/mount-table.ts';

const LINES = [
  '22 27 0:20 / /proc rw,nosuid shared:5 - proc proc rw',
  String.raw`62 27 7:0 /a\040root /with\040space\134 rw,nodev master:1 propagate_from:2 - ext4 /dev/loop0 rw,size=1`,
  'half a line',
  '',
].join('\n');

describe('the kernel’s list of mounts', () => {
  test('is read with optional fields, spaces and what it does not understand left out', () => {
    expect(parseMountInfo(LINES)).toEqual([
      {
        root: '/',
        mountPoint: '/proc',
        device: '0:20',
        fileSystem: 'proc',
        source: 'proc',
        options: ['rw', 'nosuid', 'rw'],
      },
      {
        root: '/a root',
        mountPoint: '/with space\\',
        device: '7:0',
        fileSystem: 'ext4',
        source: '/dev/loop0',
        options: ['rw', 'nodev', 'rw', 'size=1'],
      },
    ]);
  });

  test('says what is at a directory', async () => {
    expect(await mountAt('/proc')).toMatchObject({ fileSystem: 'proc' });
    expect(await mountAt('/proc/self')).toBeUndefined();
    expect(await mountAt('/not/there/at/all')).toBeUndefined();
  });
});

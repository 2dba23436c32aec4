/** Why a kind of plaintext store cannot be tested here; undefined where it can. */
import { existsSync, readFileSync } from 'node:fs';
import type { PlaintextStoreKind } from '../../shim/snapshotter/plaintext-store.ts';

export function storeSkipReason(kind: PlaintextStoreKind): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, to mount';
  switch (kind) {
    case 'memory':
      return undefined;
    case 'compressed-memory':
      if (!existsSync('/usr/bin/mkfs.erofs')) return 'needs mkfs.erofs: apt-get install erofs-utils';
      return readFileSync('/proc/filesystems', 'utf8').includes('erofs')
        ? undefined
        : 'needs erofs in the kernel';
    case 'encrypted-volume':
      if (hasDeviceMapper() && existsSync('/usr/sbin/cryptsetup')) return undefined;
      if (!existsSync('/usr/bin/gocryptfs')) return 'needs gocryptfs: apt-get install gocryptfs fuse3';
      return existsSync('/dev/fuse') ? undefined : 'needs FUSE in the kernel';
  }
}

/** By the kernel's word: cryptsetup makes the device node whether there is something behind it or not. */
export function hasDeviceMapper(): boolean {
  return readFileSync('/proc/misc', 'utf8').includes('device-mapper');
}

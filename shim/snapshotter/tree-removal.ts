/** How a snapshot's directory is removed. */
import { lstatSync, renameSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { systemErrorCode } from '#src/base/errors.ts';
import { MEBIBYTE } from '#src/base/units.ts';
import { unmountPacked } from './layer-packer.ts';
import { entriesBelow } from './tree-entries.ts';

const DISK_BLOCK_BYTES = 512;
/** Removed at once: at most a millisecond's work, also on a disk. */
const SMALL_TREE = { entries: 64, sizeBytes: MEBIBYTE };
/** Tried again, because a file that was being made when the tree was moved aside may still appear in it. */
const REMOVAL = { recursive: true, force: true, maxRetries: 3, retryDelay: 10 };

/**
 * Removes a snapshot's directory, if it is there; an image that is mounted in it goes with it. It is moved aside first: who
 * is still writing, as containerd is while it unpacks, must fail now, and not go on beside the removal and call it whole.
 */
export async function removeTree(base: string): Promise<void> {
  if (lstatSync(base, { throwIfNoEntry: false }) === undefined) return;
  await unmountPacked(base);
  const aside = `${base}.removed`;
  while (!isMoved(base, aside)) await rm(aside, REMOVAL);
  if (lstatSync(aside, { throwIfNoEntry: false }) === undefined) return;
  // containerd lets nobody prepare a snapshot while it waits for the removal of others.
  if (isSmall(aside)) rmSync(aside, REMOVAL);
  else await rm(aside, REMOVAL);
}

/** False when what an earlier removal has left is in the way; what is not there any more is being removed by another. */
function isMoved(base: string, aside: string): boolean {
  try {
    renameSync(base, aside);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOTEMPTY' || code === 'EEXIST') return false;
    if (code !== 'ENOENT') throw error;
  }
  return true;
}

/** True for what most containers have written: it is removed in less time than a thread takes to be asked. */
function isSmall(base: string): boolean {
  let [entries, sizeBytes] = [0, 0];
  for (const { blocks } of entriesBelow(base)) {
    entries += 1;
    sizeBytes += blocks * DISK_BLOCK_BYTES;
    if (entries > SMALL_TREE.entries || sizeBytes > SMALL_TREE.sizeBytes) return false;
  }
  return true;
}

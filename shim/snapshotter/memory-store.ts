/** The memory-backed store for plaintext: a tmpfs that is never swapped and that only root can enter. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, realpath, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LatchkeyError } from '#src/base/errors.ts';

const run = promisify(execFile);

const TMPFS_MAGIC = 0x01021994;

export interface MemoryStoreState {
  readonly usedBytes: number;
  readonly capacityBytes: number;
  /** False on kernels before 6.4, where tmpfs pages may reach a swap device. */
  readonly neverSwapped: boolean;
}

/**
 * Mounts the store if it is not mounted yet; one that is keeps what is in it and takes the new size.
 * @param capacity tmpfs size: bytes with k, m, g, or a share of memory
 * @throws LatchkeyError STORAGE_FAILED when it cannot be mounted, or could be swapped out
 */
export async function mountMemoryStore(directory: string, capacity: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if (await isMemoryStore(directory)) {
    // Refused when more than that is in it already: then it keeps its size until it has been emptied.
    await run('mount', ['-o', `remount,size=${capacity}`, directory]).catch(() => undefined);
    return;
  }
  const options = `size=${capacity},mode=0700,nodev`;
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `${options},noswap`, 'latchkey', directory]);
  } catch (error) {
    if (await hasSwap()) {
      throw new LatchkeyError(
        'STORAGE_FAILED',
        'the plaintext store cannot be kept out of swap on this machine',
        {
          hint: 'use a kernel of version 6.4 or later, run as root, or turn swap off',
          cause: error,
        },
      );
    }
    await mountPlain(directory, options);
  }
}

async function mountPlain(directory: string, options: string): Promise<void> {
  try {
    await run('mount', ['-t', 'tmpfs', '-o', options, 'latchkey', directory]);
  } catch (error) {
    throw new LatchkeyError('STORAGE_FAILED', `the plaintext store cannot be mounted at ${directory}`, {
      hint: 'the agent must run as root, in the machine’s own mount namespace',
      cause: error,
    });
  }
}

/** Unmounts the store, and with it forgets everything in it; one in use stays until its last user ends. */
export async function unmountMemoryStore(directory: string): Promise<void> {
  if (await isMemoryStore(directory)) await run('umount', ['--lazy', directory]);
}

export async function memoryStoreState(directory: string): Promise<MemoryStoreState> {
  const { bsize, blocks, bfree } = await statfs(directory);
  const line = await mountLine(directory);
  return {
    usedBytes: (blocks - bfree) * bsize,
    capacityBytes: blocks * bsize,
    neverSwapped: line?.includes('noswap') === true || !(await hasSwap()),
  };
}

/** A tmpfs of its own, whatever links or odd characters its path has: another filesystem than the one above. */
async function isMemoryStore(directory: string): Promise<boolean> {
  const status = await statfs(directory).catch(() => undefined);
  if (status?.type !== TMPFS_MAGIC) return false;
  const [own, above] = await Promise.all([stat(directory), stat(join(await realpath(directory), '..'))]);
  return own.dev !== above.dev;
}

/** True when any swap device is on; its first line is a header. */
export async function hasSwap(): Promise<boolean> {
  const swaps = await readFile('/proc/swaps', 'utf8').catch(() => '');
  return swaps.trim().split('\n').length > 1;
}

/** The store's line in the kernel's list, where spaces and the like are written in octal (proc(5)). */
async function mountLine(directory: string): Promise<string | undefined> {
  const path = await realpath(directory);
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  return mounts.split('\n').find((line) => {
    const point = line.split(' ')[1] ?? '';
    return (
      point.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))) ===
      path
    );
  });
}

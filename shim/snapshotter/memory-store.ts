/** The memory-backed store for plaintext: a tmpfs that is never swapped and that only root can enter. */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { promisify } from 'node:util';
import { LatchkeyError } from '#src/base/errors.ts';
import { type MountEntry, mountAt, unmountAll } from './mount-table.ts';
import { CAPACITY_SETTINGS, type PlaintextStore, hasSwap, plaintextStoreState } from './plaintext-store.ts';

const run = promisify(execFile);

/** @param capacity see `mountMemoryStore` */
export function memoryStore(directory: string, capacity: string): PlaintextStore {
  return {
    kind: 'memory',
    directory,
    capacitySetting: CAPACITY_SETTINGS.memory,
    packer: undefined,
    open: async () => {
      await mountMemoryStore(directory, capacity);
      return { writableDirectory: undefined };
    },
    close: () => unmountMemoryStore(directory),
    state: () => plaintextStoreState(directory),
  };
}

/**
 * Mounts the store if it is not mounted yet; one that is keeps what is in it and takes the new size, unless it could be
 * swapped out: that one is unmounted.
 * @param capacity tmpfs size: bytes with k, m, g, or a share of memory
 * @param swaps see `hasSwap`
 * @throws LatchkeyError STORAGE_FAILED when it cannot be mounted, or could be swapped out
 */
export async function mountMemoryStore(directory: string, capacity: string, swaps?: string): Promise<void> {
  const mounted = await mountAt(directory);
  if (mounted?.fileSystem === 'tmpfs' && (await isKeptOutOfSwap(mounted, swaps))) {
    // Refused when more than that is in it already: then it keeps its size until it has been emptied.
    await run('mount', ['-o', `remount,size=${capacity}`, directory]).catch(() => undefined);
    return;
  }
  // A store of another kind, or one that the kernel may swap, which it cannot be told to stop (tmpfs(5): noswap is not for
  // a remount): what is in it is made again where it belongs now.
  if (mounted !== undefined) await unmountAll(directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const options = `size=${capacity},mode=0700,nodev`;
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `${options},noswap`, 'latchkey', directory]);
  } catch (error) {
    if (await hasSwap(swaps)) {
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

async function isKeptOutOfSwap({ options }: MountEntry, swaps?: string): Promise<boolean> {
  return options.includes('noswap') || !(await hasSwap(swaps));
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
  if (await isMemoryStore(directory)) await unmountAll(directory);
}

/** A tmpfs of its own, whatever links or odd characters its path has. */
async function isMemoryStore(directory: string): Promise<boolean> {
  return (await mountAt(directory))?.fileSystem === 'tmpfs';
}

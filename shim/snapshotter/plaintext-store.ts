/** Where the plaintext of gated layers is, and what their containers write: one shape, one file for each kind. */
import { readFile, statfs } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import type { LayerPacker } from './layer-packer.ts';
import { mountAt } from './mount-table.ts';

export const PLAINTEXT_STORES = ['memory', 'compressed-memory', 'encrypted-volume'] as const;

export type PlaintextStoreKind = (typeof PLAINTEXT_STORES)[number];

export type CapacitySetting = 'plaintext_capacity' | 'volume_capacity';

/** The setting of the agent that says how much a store holds. */
export const CAPACITY_SETTINGS: Readonly<Record<PlaintextStoreKind, CapacitySetting>> = {
  memory: 'plaintext_capacity',
  'compressed-memory': 'plaintext_capacity',
  'encrypted-volume': 'volume_capacity',
};

export interface PlaintextStoreState {
  readonly usedBytes: number;
  readonly capacityBytes: number;
  /** False when what is in it, or the key to it, may reach a swap device. */
  readonly neverSwapped: boolean;
}

export interface PlaintextStore {
  readonly kind: PlaintextStoreKind;
  /** Where it is mounted; only root gets in. */
  readonly directory: string;
  readonly capacitySetting: CapacitySetting;
  /** Makes whole layers smaller, in the stores that do. */
  readonly packer: LayerPacker | undefined;
  /**
   * Makes it usable. One that an earlier run of the agent has left open keeps what is in it; anything else that an earlier
   * run has left is removed.
   * @returns the directory beside it where containers write, when overlayfs cannot write into the store itself
   * @throws LatchkeyError CONFIG_INVALID naming what is missing, STORAGE_FAILED, STORAGE_FULL
   */
  open(): Promise<{ readonly writableDirectory: string | undefined }>;
  /** Forgets everything in it; what a running container stands on stays until it ends. */
  close(): Promise<void>;
  state(): Promise<PlaintextStoreState>;
}

/**
 * Of a store of any kind, from what is mounted at its directory. Where nothing is, the disk below does not count, and one
 * that does not answer has nothing in it any more.
 * @param swaps see `hasSwap`
 */
export async function plaintextStoreState(directory: string, swaps?: string): Promise<PlaintextStoreState> {
  const mount = await mountAt(directory);
  const nothing = { bsize: 0, blocks: 0, bfree: 0 };
  const { bsize, blocks, bfree } =
    mount === undefined ? nothing : await statfs(directory).catch(() => nothing);
  // The kernel never swaps the pages of such a tmpfs, nor the keys and the page cache of its own devices.
  const keptOut =
    mount?.options.includes('noswap') === true || mount?.source.startsWith('/dev/mapper/') === true;
  return {
    usedBytes: (blocks - bfree) * bsize,
    capacityBytes: blocks * bsize,
    neverSwapped: keptOut || !(await mayHaveSwap(swaps)),
  };
}

/**
 * True when any swap device is on.
 * @param swaps the kernel's list (proc(5)): its first line is a header; a kernel that cannot swap has none
 * @throws LatchkeyError STORAGE_FAILED when that cannot be known: nothing may be put where it could be swapped then
 */
export async function hasSwap(swaps = '/proc/swaps'): Promise<boolean> {
  let list: string;
  try {
    list = await readFile(swaps, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw new LatchkeyError('STORAGE_FAILED', `whether swap is on cannot be read from ${swaps}`, {
      hint: 'run it as root on a machine whose /proc can be read',
      cause: error,
    });
  }
  return list.trim().split('\n').length > 1;
}

/** For reports: swap that nothing can be known of counts as on. See `hasSwap`. */
export function mayHaveSwap(swaps?: string): Promise<boolean> {
  return hasSwap(swaps).catch(() => true);
}

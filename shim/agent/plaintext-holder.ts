/** What lies on a node in plaintext, whichever mode has put it there, as those who enforce licenses look at it. */
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import type { GatedWorkload } from './gated-workloads.ts';

export interface DropResult {
  readonly dropped: number;
  readonly kept: number;
}

/** A snapshot and everything below, nearest first, as far as keys go. */
export type GatedChain = readonly {
  readonly gate: SnapshotGateRecord | null;
  /** Of a snapshot of ours. */
  readonly id?: number;
}[];

export interface HeldChain {
  readonly chain: GatedChain;
  /** True for what a container has written, which cannot be made again. */
  readonly isWritten: boolean;
  /** True while its plaintext is there. */
  readonly isPresent: () => boolean;
}

export interface PlaintextHolder {
  /** The running containers that stand on encrypted layers. */
  running(): Promise<GatedWorkload[]>;
  /** Everything that stands on encrypted layers. */
  chains(): Promise<HeldChain[]>;
  /**
   * Drops what nobody may use, or nobody has for too long.
   * @param running what runs, when the caller has just looked
   */
  sweep(running?: readonly GatedWorkload[]): Promise<DropResult>;
  /** Drops everything that no running container stands on. */
  dropUnused(): Promise<DropResult>;
}

/** Of the mode `hook`: podman's storage is not ours to clear. */
export const NO_PLAINTEXT: PlaintextHolder = {
  running: () => Promise.resolve([]),
  chains: () => Promise.resolve([]),
  sweep: () => Promise.resolve({ dropped: 0, kept: 0 }),
  dropUnused: () => Promise.resolve({ dropped: 0, kept: 0 }),
};

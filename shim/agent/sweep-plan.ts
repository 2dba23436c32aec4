/** Which snapshots of a stock snapshotter are taken away so that the next start has to ask. Pure. */
import type { ContainerdSnapshot } from '../containerd/snapshots.ts';

/** `refused` takes everything that does not run; `kept` nothing; `due` what has been made again easily. */
export type ChainFate = 'refused' | 'due' | 'kept';

export interface SweepFacts {
  readonly snapshots: readonly ContainerdSnapshot[];
  /** Of the chain IDs that stand on encrypted layers; undefined for all other names. */
  readonly fateOf: (name: string) => ChainFate | undefined;
  /** Names of the snapshots that running containers write to. */
  readonly running: ReadonlySet<string>;
  /** A chain committed after this may still be waited for by the client that has unpacked it. */
  readonly committedBeforeMs: number;
}

/**
 * The snapshots to remove, topmost first: containerd removes nothing that something stands on.
 */
export function planSweep(facts: SweepFacts): string[] {
  const children = new Map<string, ContainerdSnapshot[]>();
  for (const snapshot of facts.snapshots) {
    const siblings = children.get(snapshot.parent);
    if (siblings === undefined) children.set(snapshot.parent, [snapshot]);
    else siblings.push(snapshot);
  }
  const removals: string[] = [];
  /** @returns true when the snapshot and all above it go */
  const visit = (snapshot: ContainerdSnapshot, isRefusedBelow: boolean): boolean => {
    const fate = facts.fateOf(snapshot.name);
    const isRefused = isRefusedBelow || fate === 'refused';
    const above = (children.get(snapshot.name) ?? []).map((child) => visit(child, isRefused));
    if (!above.every(Boolean) || !goes(facts, snapshot, fate, isRefused)) return false;
    removals.push(snapshot.name);
    return true;
  };
  const known = new Set(facts.snapshots.map(({ name }) => name));
  for (const root of facts.snapshots.filter(({ parent }) => !known.has(parent))) visit(root, false);
  return removals;
}

function goes(
  facts: SweepFacts,
  snapshot: ContainerdSnapshot,
  fate: ChainFate | undefined,
  isRefused: boolean,
): boolean {
  if (isRefused) return !facts.running.has(snapshot.name);
  // What a container wrote, and what was committed from it, cannot be unpacked again.
  return snapshot.isCommitted && fate === 'due' && snapshot.createdAtMs <= facts.committedBeforeMs;
}

/** The running containers that stand on gated layers, whatever client or namespace they came from. */
import type { ContainerdConnection } from '../containerd/connection.ts';
import { type Workload, runningWorkloads } from '../containerd/workloads.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import { isGated } from '../snapshotter/chain.ts';
import { type Snapshot, type SnapshotGateRecord, parseKey } from '../snapshotter/snapshot.ts';
import type { Snapshotter } from '../snapshotter/snapshotter.ts';
import type { GatedChain } from './plaintext-holder.ts';

export interface GatedWorkload {
  readonly workload: Workload;
  /** Its own snapshot and everything below, nearest first. */
  readonly chain: GatedChain;
}

export async function gatedWorkloads(
  containerd: ContainerdConnection,
  snapshotter: Snapshotter,
): Promise<GatedWorkload[]> {
  const running = await runningWorkloads(containerd);
  const open = new Map<string, Snapshot>();
  for (const snapshot of snapshotter.list()) {
    const { namespace, name } = parseKey(snapshot.key);
    if (snapshot.kind !== 'committed') open.set(`${namespace}/${name}`, snapshot);
  }
  return running.flatMap((workload) => {
    if (workload.snapshotter !== SNAPSHOTTER_NAME) return [];
    const snapshot = open.get(`${workload.namespace}/${workload.snapshotKey}`);
    if (snapshot === undefined) return [];
    const chain = [snapshot, ...snapshotter.parentChain(snapshot.parent ?? '')];
    return isGated(chain) ? [{ workload, chain }] : [];
  });
}

/** The keys behind a chain, one for each gated layer. */
export function gatesOf(chain: GatedChain): SnapshotGateRecord[] {
  return chain.flatMap(({ gate }) => (gate === null ? [] : [gate]));
}

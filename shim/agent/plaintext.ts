/**
 * Plaintext goes when nobody may use it, or nobody has for a while. What a running container stands on stays
 * until it ends; its license decides whether it is ended.
 */
import type { Clock } from '#src/base/clock.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import { type Workload, runningWorkloads, signalWorkload } from '../containerd/workloads.ts';
import type { LayerKeeper } from '../snapshotter/layer-keeper.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import { type Snapshot, parseKey } from '../snapshotter/snapshot.ts';
import { isGated } from '../snapshotter/chain.ts';
import type { Snapshotter } from '../snapshotter/snapshotter.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import { subjectKey } from './lease.ts';

/** Longer than containerd takes from the mounts of a container to its task. */
const STARTING_MS = 60_000;
const SIGTERM = 15;
const SIGKILL = 9;

export interface PlaintextParts {
  readonly containerd: ContainerdConnection;
  readonly snapshotter: Snapshotter;
  readonly keeper: LayerKeeper;
  readonly leases: LeaseKeeper;
  readonly clock: Clock;
  /** Layers that nothing has used for this long are dropped although the license is good. */
  readonly idleDropAfterMs: number;
  /** Between SIGTERM and SIGKILL when a license says `stop`. */
  readonly stopGraceMs: number;
}

type Standing = 'licensed' | 'no-lease' | 'refused';

export interface DropResult {
  readonly dropped: number;
  readonly kept: number;
}

export class PlaintextDropper {
  readonly #parts: PlaintextParts;

  constructor(parts: PlaintextParts) {
    this.#parts = parts;
  }

  /**
   * Drops what has no good lease, or has been idle for too long. What a container has written goes only when
   * its license has been refused: it cannot be made again, and a key server may just be away.
   */
  async sweep(): Promise<DropResult> {
    const used = await this.#usedSnapshots();
    return this.#drop((snapshot, standing) => {
      if (used.has(snapshot.id)) return false;
      if (standing === 'refused') return true;
      if (snapshot.kind !== 'committed') return false;
      const idleMs = this.#parts.clock.monotonicMs() - this.#parts.keeper.lastUsedMs(snapshot);
      // A start that has its mounts but no task yet is not among the used ones.
      const startingMs = standing === 'no-lease' ? STARTING_MS : this.#parts.idleDropAfterMs;
      return idleMs >= startingMs;
    });
  }

  /** Drops everything that no running container stands on. */
  async dropUnused(): Promise<DropResult> {
    const used = await this.#usedSnapshots();
    return this.#drop((snapshot) => !used.has(snapshot.id));
  }

  /** Ends the containers that stand on an image's layers, as its license says. */
  async stopContainers(subject: string, how: 'stop' | 'kill'): Promise<void> {
    const affected = (await this.#gatedWorkloads()).filter(({ chain }) =>
      chain.some(({ gate }) => gate !== null && subjectKey(gate) === subject),
    );
    const signalAll = (signal: number): Promise<unknown> =>
      Promise.all(affected.map(({ workload }) => signalWorkload(this.#parts.containerd, workload, signal)));
    if (how === 'stop') {
      await signalAll(SIGTERM);
      await new Promise((resolve) => setTimeout(resolve, this.#parts.stopGraceMs));
    }
    await signalAll(SIGKILL);
  }

  /** A snapshot stands as the worst of the gated layers in its chain. */
  #standing(snapshot: Snapshot): Standing {
    const chain = [snapshot, ...this.#parts.snapshotter.parentChain(snapshot.parent ?? '')];
    const leases = chain.flatMap(({ gate }) =>
      gate === null
        ? []
        : [this.#parts.leases.all().find(({ subject }) => subjectKey(subject) === subjectKey(gate))],
    );
    if (leases.some((lease) => lease?.denial !== undefined)) return 'refused';
    return leases.every((lease) => lease !== undefined && this.#parts.leases.isGood(lease))
      ? 'licensed'
      : 'no-lease';
  }

  async #drop(shouldDrop: (snapshot: Snapshot, standing: Standing) => boolean): Promise<DropResult> {
    let dropped = 0;
    let kept = 0;
    for (const snapshot of this.#parts.snapshotter.list()) {
      if (snapshot.store !== 'memory') continue;
      const standing = this.#standing(snapshot);
      // An unpacking in progress belongs to containerd until it is committed or removed, or may not be.
      const unpacking = snapshot.kind === 'active' && snapshot.layer !== null && standing !== 'refused';
      const drops = !unpacking && shouldDrop(snapshot, standing);
      if (drops && (await this.#parts.keeper.drop(snapshot, standing === 'refused'))) dropped += 1;
      else kept += 1;
    }
    return { dropped, kept };
  }

  async #usedSnapshots(): Promise<Set<number>> {
    const workloads = await this.#gatedWorkloads();
    return new Set(workloads.flatMap(({ chain }) => chain.map(({ id }) => id)));
  }

  async #gatedWorkloads(): Promise<{ workload: Workload; chain: Snapshot[] }[]> {
    const running = await runningWorkloads(this.#parts.containerd);
    const open = this.#parts.snapshotter.list().filter(({ kind }) => kind !== 'committed');
    return running.flatMap((workload) => {
      if (workload.snapshotter !== SNAPSHOTTER_NAME) return [];
      const snapshot = open.find(({ key }) => {
        const { namespace, name } = parseKey(key);
        return namespace === workload.namespace && name === workload.snapshotKey;
      });
      if (snapshot === undefined) return [];
      const chain = [snapshot, ...this.#parts.snapshotter.parentChain(snapshot.parent ?? '')];
      return isGated(chain) ? [{ workload, chain }] : [];
    });
  }
}

/**
 * Plaintext goes when nobody may use it, or nobody has for a while. What a running container stands on stays
 * until it ends; its license decides whether it is ended.
 */
import type { Clock } from '#src/base/clock.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import type { LayerKeeper } from '../snapshotter/layer-keeper.ts';
import type { Snapshot } from '../snapshotter/snapshot.ts';
import type { Snapshotter } from '../snapshotter/snapshotter.ts';
import { type GatedWorkload, gatedWorkloads } from './gated-workloads.ts';
import type { DropResult, HeldChain, PlaintextHolder } from './plaintext-holder.ts';
import type { Standing, Standings } from './standing.ts';

/** Longer than containerd takes from the mounts of a container to its task. */
export const STARTING_MS = 60_000;

export interface PlaintextParts {
  readonly containerd: ContainerdConnection;
  readonly snapshotter: Snapshotter;
  readonly keeper: LayerKeeper;
  readonly standings: Pick<Standings, 'ofChain'>;
  readonly clock: Clock;
  /** The snapshots of the plaintext store that are part of a mount. */
  readonly mountedSnapshots: () => Promise<ReadonlySet<number>>;
  /** Layers that nothing has used for this long are dropped although the license is good. */
  readonly idleDropAfterMs: number;
}

export class PlaintextDropper implements PlaintextHolder {
  readonly #parts: PlaintextParts;

  constructor(parts: PlaintextParts) {
    this.#parts = parts;
  }

  running(): Promise<GatedWorkload[]> {
    return gatedWorkloads(this.#parts.containerd, this.#parts.snapshotter);
  }

  chains(): Promise<HeldChain[]> {
    const { snapshotter, keeper } = this.#parts;
    const held = snapshotter.list().map((snapshot) => ({
      chain: [snapshot, ...snapshotter.parentChain(snapshot.parent ?? '')],
      isWritten: snapshot.store === 'memory' && snapshot.kind === 'active',
      isPresent: () => snapshot.store === 'memory' && keeper.isPresent(snapshot),
    }));
    return Promise.resolve(held);
  }

  /**
   * Drops what has no good lease, or has been idle for too long. What a container has written goes only when its
   * license has been refused: it cannot be made again, and a key server may just be away.
   * @param workloads what runs, when the caller has just looked
   */
  async sweep(workloads?: readonly GatedWorkload[]): Promise<DropResult> {
    const used = await this.#usedSnapshots(workloads);
    return this.#drop((snapshot, standing) => {
      if (used.has(snapshot.id)) return false;
      if (standing === 'refused') return true;
      if (snapshot.kind !== 'committed') return false;
      if (standing === 'denied') return true;
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

  /** As `dropUnused`, at a shutdown: containerd may be gone already, so the kernel is asked who stands on what. */
  async dropUnmounted(): Promise<DropResult> {
    const used = await this.#usedSnapshots().catch(() => new Set<number>());
    const mounted = await this.#parts.mountedSnapshots();
    for (const snapshot of this.#parts.snapshotter.list().filter(({ id }) => mounted.has(id))) {
      const chain = [snapshot, ...this.#parts.snapshotter.parentChain(snapshot.parent ?? '')];
      for (const { id } of chain) used.add(id);
    }
    return this.#drop((snapshot) => !used.has(snapshot.id));
  }

  async #drop(shouldDrop: (snapshot: Snapshot, standing: Standing) => boolean): Promise<DropResult> {
    let dropped = 0;
    let kept = 0;
    for (const snapshot of this.#parts.snapshotter.list()) {
      if (snapshot.store !== 'memory') continue;
      const chain = [snapshot, ...this.#parts.snapshotter.parentChain(snapshot.parent ?? '')];
      const standing = this.#parts.standings.ofChain(chain);
      // An unpacking in progress belongs to containerd until it is committed or removed, or may not be.
      const unpacking = snapshot.kind === 'active' && snapshot.layer !== null && standing !== 'refused';
      const drops = !unpacking && shouldDrop(snapshot, standing);
      if (drops && (await this.#parts.keeper.drop(snapshot, standing === 'refused'))) dropped += 1;
      else kept += 1;
    }
    return { dropped, kept };
  }

  async #usedSnapshots(workloads?: readonly GatedWorkload[]): Promise<Set<number>> {
    const gated = workloads ?? (await this.running());
    return new Set(gated.flatMap(({ chain }) => chain.flatMap(({ id }) => id ?? [])));
  }
}

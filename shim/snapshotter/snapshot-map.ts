/** Snapshots by what they are asked for: id, key, parent. */
import type { Snapshot } from './snapshot.ts';

export class SnapshotMap {
  readonly #byId = new Map<number, Snapshot>();
  readonly #idOf = new Map<string, number>();
  readonly #childrenOf = new Map<string, Set<number>>();

  constructor(snapshots: readonly Snapshot[]) {
    for (const snapshot of snapshots) this.set(snapshot);
  }

  find(key: string): Snapshot | undefined {
    const id = this.#idOf.get(key);
    return id === undefined ? undefined : this.#byId.get(id);
  }

  children(key: string): Snapshot[] {
    return [...(this.#childrenOf.get(key) ?? [])].flatMap((id) => this.#byId.get(id) ?? []);
  }

  /** By id: a snapshot that is replaced keeps its place. */
  all(): Snapshot[] {
    return [...this.#byId.values()];
  }

  set(snapshot: Snapshot): void {
    const { id, key, parent } = snapshot;
    const before = this.#byId.get(id);
    if (before !== undefined) this.#unlink(before);
    this.#byId.set(id, snapshot);
    this.#idOf.set(key, id);
    if (parent === null) return;
    const siblings = this.#childrenOf.get(parent);
    if (siblings === undefined) this.#childrenOf.set(parent, new Set([id]));
    else siblings.add(id);
  }

  delete(id: number): void {
    const before = this.#byId.get(id);
    if (before === undefined) return;
    this.#unlink(before);
    this.#byId.delete(id);
  }

  #unlink({ id, key, parent }: Snapshot): void {
    this.#idOf.delete(key);
    if (parent === null) return;
    const siblings = this.#childrenOf.get(parent);
    siblings?.delete(id);
    if (siblings?.size === 0) this.#childrenOf.delete(parent);
  }
}

/**
 * Tells open revocation streams that something about their node has changed. It carries no data: whoever is
 * woken reads the database, so a message can neither be stale nor be lost.
 */
export class ChangeFeed {
  /** Tells other processes on the same database. */
  readonly #announce: (nodeIds: readonly string[]) => void;
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(announce: (nodeIds: readonly string[]) => void = () => undefined) {
    this.#announce = announce;
  }

  /** @returns a function that ends the subscription */
  subscribe(nodeId: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(nodeId) ?? new Set();
    listeners.add(listener);
    this.#listeners.set(nodeId, listeners);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(nodeId);
    };
  }

  /** Call after the commit, never before: a listener reads what is committed. */
  publish(nodeIds: readonly string[]): void {
    this.wake(nodeIds);
    this.#announce(nodeIds);
  }

  /** Wakes the streams of this process alone; null = all of them. */
  wake(nodeIds: readonly string[] | null): void {
    for (const nodeId of nodeIds ?? [...this.#listeners.keys()]) {
      for (const listener of this.#listeners.get(nodeId) ?? []) listener();
    }
  }
}

/**
 * Tells open revocation streams that something about their node has changed. It carries no data: whoever is
 * woken reads the database, so a message can neither be stale nor be lost.
 */
export class ChangeFeed {
  readonly #listeners = new Map<string, Set<() => void>>();

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
    for (const nodeId of nodeIds) {
      for (const listener of this.#listeners.get(nodeId) ?? []) listener();
    }
  }
}

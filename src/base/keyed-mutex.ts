/** One task at a time per key; tasks of different keys run side by side. */
export class KeyedMutex<Key> {
  readonly #tails = new Map<Key, Promise<unknown>>();

  /** Runs the task when all earlier ones of the same key have ended, and gives what it gives. */
  async run<Result>(key: Key, task: () => Promise<Result>): Promise<Result> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const current = before.then(task, task);
    const tail = current.catch(() => undefined);
    this.#tails.set(key, tail);
    try {
      return await current;
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}

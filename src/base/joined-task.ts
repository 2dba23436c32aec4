/**
 * A task that its callers share. Who asks while it runs waits for the next run, which begins after he has asked, together
 * with everybody else who has asked by then.
 */
export class JoinedTask {
  readonly #task: () => Promise<void>;
  #running: Promise<void> = Promise.resolve();
  #waiting: Promise<void> | undefined;

  constructor(task: () => Promise<void>) {
    this.#task = task;
  }

  /** Resolves when a run that began after the call has ended; rejects with what that run threw. */
  run(): Promise<void> {
    this.#waiting ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#waiting = undefined;
        return (this.#running = this.#task());
      });
    return this.#waiting;
  }

  /** Resolves when nothing runs or waits any more, however it went. */
  async ended(): Promise<void> {
    await (this.#waiting ?? this.#running).catch(() => undefined);
  }
}

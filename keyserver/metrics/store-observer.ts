/** What the database tells of its work, for the metrics. */

export interface StoreObserver {
  /** Writes that wait for their commit, now. */
  waiting(count: number): void;
  /** A group of writes was committed, in this time from its first statement. */
  committed(writes: number, durationMs: number): void;
  /** A statement was answered, or failed. */
  answered(durationMs: number): void;
}

/** For stores whose work nobody counts. */
export const NOBODY_OBSERVES: StoreObserver = {
  waiting: () => undefined,
  committed: () => undefined,
  answered: () => undefined,
};

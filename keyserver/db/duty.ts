/** Work that one process on a database does for all of them. */

export interface Duty {
  /** True when it is this process's; takes it when nobody has it. False also while the database is away. */
  isOurs(): Promise<boolean>;
  /** Gives it back, for another process to take. */
  release(): Promise<void>;
}

/** On a database that one process has for itself. */
export const SOLE_DUTY: Duty = { isOurs: () => Promise.resolve(true), release: () => Promise.resolve() };

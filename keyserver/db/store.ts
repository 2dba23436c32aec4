/**
 * The database as the rest of the key server sees it: reads at any time, writes one after the other.
 * Writes that wait together are committed together, because the fsync of a commit is what costs; each still
 * has its own savepoint, and none is acknowledged before the commit.
 */
import { setImmediate } from 'node:timers';
import { CompiledQuery, Kysely, type LogEvent, type Transaction } from 'kysely';
import { currentRequestId, forRequest } from '../current-request.ts';
import { MAX_COMMIT_GROUP } from '../limits.ts';
import { type Duty, SOLE_DUTY } from './duty.ts';
import { migrate } from './migrate.ts';
import { execute, forgetValues, inOpenTransaction, together } from './open-transaction.ts';
import { type AnnouncementListener, PostgresAnnouncements } from './postgres-announcements.ts';
import { PostgresDuty } from './postgres-duty.ts';
import { SERVING, postgresDialect, postgresHosts, withPostgresSnapshot } from './postgres-database.ts';
import { preparePostgres } from './postgres-preparation.ts';
import type { Database } from './schema.ts';
import type { SpaceReserve } from './space-reserve.ts';
import { keepTemporaryInMemory, openSqlite, sqliteDialect } from './sqlite-database.ts';
import { removeLeftSnapshots, withSqliteSnapshot } from './sqlite-snapshot.ts';
import { NOBODY_OBSERVES, type StoreObserver } from '../metrics/store-observer.ts';
import { isDiskFull, isStorageFailure } from './storage-failure.ts';

export type Reader = Kysely<Database>;
export type Writer = Transaction<Database>;

/** `URGENT`: what takes rights away, and the keeping of the audit log. It gets the space that is kept for it. */
export type Urgency = 'ORDINARY' | 'URGENT';

export interface Store {
  readonly read: Reader;
  /** Null where the disk is not ours to keep space on. */
  readonly reserve: SpaceReserve | null;
  /**
   * Runs work in a transaction; resolves after the commit, rejects with what the work threw (and undoes it). Urgent work may
   * run again on space that was given back.
   */
  write<Result>(work: (writer: Writer) => Promise<Result>, urgency?: Urgency): Promise<Result>;
  /** Lets everything be read as it is at one moment, however long that takes; what is written meanwhile is not seen. */
  snapshot<Result>(work: (reader: Reader) => Promise<Result>): Promise<Result>;
  /** Tells the other processes on this database that something about these nodes has changed; call it after the commit. */
  announce(nodeIds: readonly string[]): void;
  /** Hears what this and other processes announce; one listener. */
  onAnnounced(listener: AnnouncementListener): void;
  /** Work of that name, which one process on this database does for all; release it before closing. */
  duty(name: string): Duty;
  /** Waits for writes under way, then closes the database. */
  close(): Promise<void>;
}

/** What is done with a database before it is used. */
export type Preparation = (database: Reader) => Promise<void>;

/**
 * Opens the database file of a key server.
 * @param reserve space that is kept beside it
 * @param prepare brings its schema to where the caller wants it
 * @throws LatchkeyError STATE_CONFLICT, STATE_DAMAGED, STATE_NEWER_SCHEMA, STORAGE_FULL, STORAGE_FAILED
 */
export async function openStore(
  path: string,
  observer = NOBODY_OBSERVES,
  reserve: SpaceReserve | null = null,
  prepare: Preparation = migrate,
): Promise<Store> {
  const sqlite = openSqlite(path);
  const dialect = sqliteDialect(sqlite.database);
  const database = new Kysely<Database>({ dialect, log: answeredOf(observer) });
  try {
    await removeLeftSnapshots(path);
    await prepare(database);
    keepTemporaryInMemory(sqlite);
  } catch (error) {
    await database.destroy();
    throw error;
  }
  return new GroupCommitStore({
    database,
    others: null,
    duty: () => SOLE_DUTY,
    snapshot: (work) => withSqliteSnapshot(database, sqlite, work),
    observer,
    reserve,
  });
}

/**
 * Opens a PostgreSQL database, which several key servers may use at once.
 * @param url - `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with one host or several
 * @throws LatchkeyError NET_UNREACHABLE, CONFIG_INVALID, STATE_DAMAGED, STATE_NEWER_SCHEMA, STORAGE_FULL, STORAGE_FAILED
 */
export async function openPostgresStore(
  url: string,
  observer = NOBODY_OBSERVES,
  prepare: Preparation = migrate,
  patience = SERVING,
): Promise<Store> {
  const history = await preparePostgres(url, patience, prepare);
  const hosts = postgresHosts(url, { patience, history });
  const database = new Kysely<Database>({ dialect: postgresDialect(hosts), log: answeredOf(observer) });
  return new GroupCommitStore({
    database,
    others: new PostgresAnnouncements(hosts),
    duty: (name) => new PostgresDuty(hosts, name),
    snapshot: (work) => withPostgresSnapshot(database, work),
    observer,
    reserve: null,
  });
}

function answeredOf(observer: StoreObserver): (event: LogEvent) => void {
  return ({ queryDurationMillis }) => {
    observer.answered(queryDurationMillis);
  };
}

interface WaitingWrite {
  readonly urgency: Urgency;
  run(writer: Writer): Promise<void>;
  /** Tells the caller how it went, after the commit. */
  settle(): void;
  reject(error: unknown): void;
}

interface StoreParts {
  readonly database: Reader;
  /** Null on a database that one process has for itself. */
  readonly others: PostgresAnnouncements | null;
  readonly duty: Store['duty'];
  readonly snapshot: Store['snapshot'];
  readonly observer: StoreObserver;
  readonly reserve: SpaceReserve | null;
}

class GroupCommitStore implements Store {
  readonly read: Reader;
  readonly duty: Store['duty'];
  #waiting: WaitingWrite[] = [];
  #committing: Promise<void> | null = null;
  readonly #others: PostgresAnnouncements | null;
  readonly reserve: SpaceReserve | null;
  readonly #snapshot: Store['snapshot'];
  readonly #snapshots = new Set<Promise<unknown>>();
  readonly #observer: StoreObserver;

  constructor({ database, others, duty, snapshot, observer, reserve }: StoreParts) {
    this.read = database;
    this.reserve = reserve;
    this.#others = others;
    this.duty = duty;
    this.#snapshot = snapshot;
    this.#observer = observer;
  }

  async snapshot<Result>(work: (reader: Reader) => Promise<Result>): Promise<Result> {
    const reading = this.#snapshot(work);
    this.#snapshots.add(reading);
    try {
      return await reading;
    } finally {
      this.#snapshots.delete(reading);
    }
  }

  announce(nodeIds: readonly string[]): void {
    this.#others?.announce(nodeIds);
  }

  onAnnounced(listener: AnnouncementListener): void {
    this.#others?.listen(listener);
  }

  async write<Result>(
    work: (writer: Writer) => Promise<Result>,
    urgency: Urgency = 'ORDINARY',
  ): Promise<Result> {
    // There may be room again; why there is none is for the log, which the watch of the disk writes.
    if (urgency === 'ORDINARY' && this.reserve?.isClosed === true) {
      await this.reserve.fill().catch(() => undefined);
    }
    // The group is run by whoever came first.
    const requestId = currentRequestId() ?? null;
    return new Promise<Result>((resolve, reject) => {
      let settle: () => void = () => undefined;
      this.#waiting.push({
        urgency,
        run: async (writer) => {
          const result = await forRequest(requestId, () => work(writer));
          settle = () => {
            resolve(result);
          };
        },
        settle: () => {
          settle();
        },
        reject,
      });
      this.#observer.waiting(this.#waiting.length);
      this.#committing ??= this.#commitAll();
    });
  }

  async close(): Promise<void> {
    await this.#committing;
    await Promise.allSettled(this.#snapshots);
    await this.#others?.stop();
    await this.read.destroy();
  }

  async #commitAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      // One turn of the event loop: everything that has arrived by then shares the commit.
      await new Promise<void>((resolve) => setImmediate(resolve));
      const group = this.#admitted(this.#waiting.splice(0, MAX_COMMIT_GROUP));
      this.#observer.waiting(this.#waiting.length);
      if (group.length > 0) await this.#commitGroup(group);
    }
    this.#committing = null;
  }

  /** Those that may be written now; the others are told to come again. */
  #admitted(group: readonly WaitingWrite[]): readonly WaitingWrite[] {
    const { reserve } = this;
    if (reserve?.isClosed !== true) return group;
    return group.filter((write) => {
      if (write.urgency === 'ORDINARY') write.reject(reserve.refusal());
      return write.urgency === 'URGENT';
    });
  }

  async #commitGroup(group: readonly WaitingWrite[]): Promise<void> {
    const done: WaitingWrite[] = [];
    const refused = new Set<WaitingWrite>();
    const startedAtMs = performance.now();
    try {
      // PostgreSQL has to look again behind the lock, whatever its default is; on SQLite a writer is alone anyway.
      const transaction = this.read.transaction().setIsolationLevel('read committed');
      await transaction.execute(async (writer) => {
        if (this.#others !== null) await writer.executeQuery(LOCK_WRITERS);
        await inOpenTransaction(writer, async () => {
          for (const write of group) {
            // The failure of one that is alone is the failure of the transaction.
            const failure =
              group.length === 1 ? await runAlone(writer, write) : await runInSavepoint(writer, write);
            if (failure === null) {
              done.push(write);
            } else {
              refused.add(write);
              write.reject(failure.error);
            }
          }
        });
      });
    } catch (error) {
      this.#settleLost(
        group.filter((write) => !refused.has(write)),
        error,
      );
      return;
    }
    this.#observer.committed(done.length, performance.now() - startedAtMs);
    for (const write of done) write.settle();
  }

  /** Nothing of them is written. On a full disk what is urgent is tried again, with some space given back to it. */
  #settleLost(lost: readonly WaitingWrite[], error: unknown): void {
    const urgent = lost.filter(({ urgency }) => urgency === 'URGENT');
    const isTriedAgain = urgent.length > 0 && isDiskFull(error) && this.reserve?.giveBack() === true;
    for (const write of lost) if (!isTriedAgain || write.urgency === 'ORDINARY') write.reject(error);
    if (isTriedAgain) this.#waiting.unshift(...urgent);
  }
}

/**
 * Taken by every write transaction, so that the writers of all processes come one after the other: what a write
 * reads, no other changes before its commit. "latchkey" in ASCII; a database holds one organization.
 */
const LOCK_WRITERS = CompiledQuery.raw('select pg_advisory_xact_lock(7809651199139603833)');
const SAVEPOINT = CompiledQuery.raw('savepoint request');
const ROLLBACK_TO_SAVEPOINT = CompiledQuery.raw('rollback to savepoint request');

async function runAlone(writer: Writer, write: WaitingWrite): Promise<null> {
  await write.run(writer);
  return null;
}

/** Savepoints lie one in another, at most as many as a group has writes; the commit releases them. */
async function runInSavepoint(writer: Writer, write: WaitingWrite): Promise<{ error: unknown } | null> {
  try {
    await together(execute(writer, SAVEPOINT), write.run(writer));
  } catch (error) {
    // After a storage failure the database may have ended the transaction; going on would commit piecemeal.
    if (isStorageFailure(error)) throw error;
    await execute(writer, ROLLBACK_TO_SAVEPOINT);
    forgetValues(writer);
    return { error };
  }
  return null;
}

/**
 * The database as the rest of the key server sees it: reads at any time, writes one after the other.
 * Writes that wait together are committed together, because the fsync of a commit is what costs; each still
 * has its own savepoint, and none is acknowledged before the commit.
 */
import { setImmediate } from 'node:timers';
import { CompiledQuery, Kysely, SqliteDialect, type Transaction } from 'kysely';
import { MAX_COMMIT_GROUP } from '../limits.ts';
import { migrate } from './migrate.ts';
import type { Database } from './schema.ts';
import { openSqlite } from './sqlite-database.ts';
import { isStorageFailure } from './sqlite-error.ts';

export type Reader = Kysely<Database>;
export type Writer = Transaction<Database>;

export interface Store {
  readonly read: Reader;
  /** Runs work in a transaction; resolves after the commit, rejects with what the work threw (and undoes it). */
  write<Result>(work: (writer: Writer) => Promise<Result>): Promise<Result>;
  /** Waits for writes under way, then closes the file. */
  close(): Promise<void>;
}

/**
 * Opens the database file of a key server.
 * @throws LatchkeyError STATE_CONFLICT, STATE_DAMAGED, STATE_NEWER_SCHEMA, STORAGE_FULL, STORAGE_FAILED
 */
export async function openStore(path: string): Promise<Store> {
  const database = new Kysely<Database>({ dialect: new SqliteDialect({ database: openSqlite(path) }) });
  try {
    await migrate(database);
  } catch (error) {
    await database.destroy();
    throw error;
  }
  return new GroupCommitStore(database);
}

interface WaitingWrite {
  run(writer: Writer): Promise<void>;
  /** Tells the caller how it went, after the commit. */
  settle(): void;
  reject(error: unknown): void;
}

class GroupCommitStore implements Store {
  readonly read: Reader;
  #waiting: WaitingWrite[] = [];
  #committing: Promise<void> | null = null;

  constructor(database: Reader) {
    this.read = database;
  }

  write<Result>(work: (writer: Writer) => Promise<Result>): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      let settle: () => void = () => undefined;
      this.#waiting.push({
        run: async (writer) => {
          const result = await work(writer);
          settle = () => {
            resolve(result);
          };
        },
        settle: () => {
          settle();
        },
        reject,
      });
      this.#committing ??= this.#commitAll();
    });
  }

  async close(): Promise<void> {
    await this.#committing;
    await this.read.destroy();
  }

  async #commitAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      // One turn of the event loop: everything that has arrived by then shares the commit.
      await new Promise<void>((resolve) => setImmediate(resolve));
      await this.#commitGroup(this.#waiting.splice(0, MAX_COMMIT_GROUP));
    }
    this.#committing = null;
  }

  async #commitGroup(group: readonly WaitingWrite[]): Promise<void> {
    const done: WaitingWrite[] = [];
    try {
      await this.read.transaction().execute(async (writer) => {
        for (const write of group) {
          const failure = await runInSavepoint(writer, write);
          if (failure === null) done.push(write);
          else write.reject(failure.error);
        }
      });
    } catch (error) {
      for (const write of group) write.reject(error);
      return;
    }
    for (const write of done) write.settle();
  }
}

const SAVEPOINT = CompiledQuery.raw('savepoint request');
const ROLLBACK_TO_SAVEPOINT = CompiledQuery.raw('rollback to savepoint request');
const RELEASE_SAVEPOINT = CompiledQuery.raw('release savepoint request');

async function runInSavepoint(writer: Writer, write: WaitingWrite): Promise<{ error: unknown } | null> {
  await writer.executeQuery(SAVEPOINT);
  try {
    await write.run(writer);
  } catch (error) {
    // After a storage failure SQLite may have ended the transaction; going on would commit piecemeal.
    if (isStorageFailure(error)) throw error;
    await writer.executeQuery(ROLLBACK_TO_SAVEPOINT);
    await writer.executeQuery(RELEASE_SAVEPOINT);
    return { error };
  }
  await writer.executeQuery(RELEASE_SAVEPOINT);
  return null;
}

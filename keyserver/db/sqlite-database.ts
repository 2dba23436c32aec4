/**
 * node:sqlite behind the small interface that kysely's SQLite dialect asks for. Durable by configuration:
 * a commit returns after its fsync (WAL, synchronous=FULL).
 */
import { statSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { SqliteAdapter, type SqliteDatabase, SqliteDialect, type SqliteStatement } from 'kysely';
import { DATABASE_LOCK_TIMEOUT_MS, MAX_START_CHECK_BYTES } from '../limits.ts';
import { databaseDamaged, fromSqliteError } from './sqlite-error.ts';

export interface OpenSqlite {
  readonly path: string;
  readonly connection: DatabaseSync;
  /** The same for kysely. */
  readonly database: SqliteDatabase;
}

/**
 * Opens or creates a database and keeps it locked for this process; the kernel frees the lock when the
 * process ends, however it ends.
 * @throws LatchkeyError STATE_CONFLICT (another process has it), STATE_DAMAGED, STORAGE_FAILED
 */
export function openSqlite(path: string): OpenSqlite {
  try {
    const database = new DatabaseSync(path, {
      timeout: DATABASE_LOCK_TIMEOUT_MS,
      enableForeignKeyConstraints: true,
    });
    database.exec('PRAGMA locking_mode = EXCLUSIVE');
    database.exec('PRAGMA journal_mode = WAL');
    database.exec('PRAGMA synchronous = FULL');
    // A key that was destroyed or wrapped anew must not stay in free pages.
    database.exec('PRAGMA secure_delete = ON');
    // Exclusive locking takes the lock at the first write, not at opening.
    database.exec('BEGIN IMMEDIATE; COMMIT');
    checkPages(database, path);
    return { path, connection: database, database: new NodeSqlite(database, path) };
  } catch (error) {
    throw fromSqliteError(error, path);
  }
}

/**
 * Has a database that is in use write no temporary files. What each request of a commit could be taken back by went into one in
 * the system's directory, page after page: a fifteenth of the CPU time of a start (measured), with wrapped keys in it. An upgrade may sort
 * more than there is memory, so it comes before.
 */
export function keepTemporaryInMemory({ connection }: OpenSqlite): void {
  connection.exec('PRAGMA temp_store = MEMORY');
}

/** Opens a database that nobody writes to. */
export function readSqlite(path: string): SqliteDatabase {
  return new NodeSqlite(new DatabaseSync(path, { readOnly: true }), path);
}

/** SQLite as kysely should see it. */
export function sqliteDialect(database: SqliteDatabase): SqliteDialect {
  return new TransactionalSqliteDialect({ database });
}

/** SQLite undoes changes of the schema with their transaction: those of one start come all at once or, after a crash, not at all. */
class TransactionalSqliteDialect extends SqliteDialect {
  override createAdapter(): SqliteAdapter {
    return new TransactionalSqliteAdapter();
  }
}

class TransactionalSqliteAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

function checkPages(database: DatabaseSync, path: string): void {
  if (statSync(path).size > MAX_START_CHECK_BYTES) return;
  const row = database.prepare('PRAGMA quick_check(1)').get();
  if (row?.['quick_check'] !== 'ok') throw databaseDamaged(path);
}

class NodeSqlite implements SqliteDatabase {
  readonly #database: DatabaseSync;
  readonly #path: string;
  /** Queries are few and their text is constant, so the cache is bounded by the source code. */
  readonly #statements = new Map<string, NodeSqliteStatement>();

  constructor(database: DatabaseSync, path: string) {
    this.#database = database;
    this.#path = path;
  }

  prepare(sql: string): SqliteStatement {
    // SQLite ends a transaction by itself when the disk is full; rolling back again would hide that error.
    if (sql === 'rollback' && !this.#database.isTransaction) return NOTHING;
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    try {
      const statement = new NodeSqliteStatement(this.#database.prepare(sql), this.#path);
      this.#statements.set(sql, statement);
      return statement;
    } catch (error) {
      throw fromSqliteError(error, this.#path);
    }
  }

  close(): void {
    this.#database.close();
  }
}

const NOTHING: SqliteStatement = {
  reader: false,
  all: () => [],
  run: () => ({ changes: 0, lastInsertRowid: 0 }),
  iterate: () => [].values(),
};

class NodeSqliteStatement implements SqliteStatement {
  readonly reader: boolean;
  readonly #statement: StatementSync;
  readonly #path: string;

  constructor(statement: StatementSync, path: string) {
    this.#statement = statement;
    this.#path = path;
    this.reader = statement.columns().length > 0;
  }

  all(parameters: readonly unknown[]): unknown[] {
    return this.#guard(() => this.#statement.all(...(parameters as SQLInputValue[])));
  }

  run(parameters: readonly unknown[]): { changes: number | bigint; lastInsertRowid: number | bigint } {
    return this.#guard(() => this.#statement.run(...(parameters as SQLInputValue[])));
  }

  iterate(parameters: readonly unknown[]): IterableIterator<unknown> {
    return this.#guard(() => this.#statement.iterate(...(parameters as SQLInputValue[])));
  }

  #guard<T>(execute: () => T): T {
    try {
      return execute();
    } catch (error) {
      throw fromSqliteError(error, this.#path);
    }
  }
}

/**
 * The whole database as it is at one moment, for a long read. The key server has one connection, which a long read would
 * keep from everybody else; so SQLite copies the pages, some at a time between the writes, and the copy is read.
 */
import { randomUUID } from 'node:crypto';
import { readdir, rm, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync, backup } from 'node:sqlite';
import { Kysely } from 'kysely';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { SNAPSHOT_PAGES_AT_ONCE } from '../limits.ts';
import type { Database } from './schema.ts';
import { type OpenSqlite, readSqlite, sqliteDialect } from './sqlite-database.ts';
import { fromSqliteError } from './sqlite-error.ts';

const MARK = '.snapshot-';

/**
 * Copies the database, lets the copy be read, and removes it.
 * @param database the key server's own connection
 * @throws LatchkeyError STORAGE_FULL when there is no room for a copy, STORAGE_FAILED, and what the work throws
 */
export async function withSqliteSnapshot<Result>(
  database: Kysely<Database>,
  { connection, path }: OpenSqlite,
  work: (reader: Kysely<Database>) => Promise<Result>,
): Promise<Result> {
  await requireRoom(path);
  const copy = `${path}${MARK}${randomUUID()}`;
  try {
    const copied = await beginCopy(database, connection, copy);
    await copied.done;
    const reader = new Kysely<Database>({ dialect: sqliteDialect(readSqlite(copy)) });
    try {
      return await work(reader);
    } finally {
      await reader.destroy();
    }
  } catch (error) {
    throw fromSqliteError(error, path);
  } finally {
    await removeCopy(copy);
  }
}

/** What a key server left behind that was killed. Only for whoever has the database locked. */
export async function removeLeftSnapshots(path: string): Promise<void> {
  for (const name of await readdir(dirname(path))) {
    if (name.startsWith(`${basename(path)}${MARK}`)) await rm(join(dirname(path), name), { force: true });
  }
}

/** SQLite begins no copy in the middle of a transaction, so the first step has the connection for itself. */
function beginCopy(
  database: Kysely<Database>,
  connection: DatabaseSync,
  copy: string,
): Promise<{ readonly done: Promise<unknown> }> {
  return database.connection().execute(async () => {
    let begin: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const done = backup(connection, copy, {
      rate: SNAPSHOT_PAGES_AT_ONCE,
      progress: () => {
        begin();
      },
    });
    await Promise.race([begun, done]);
    return { done };
  });
}

/** A full disk would keep the key server from everything else. */
async function requireRoom(path: string): Promise<void> {
  const needed = (await sizeOf(path)) + (await sizeOf(`${path}-wal`));
  const { bavail, bsize } = await statfs(dirname(path));
  if (needed < bavail * bsize) return;
  throw new LatchkeyError('STORAGE_FULL', `there is no room beside ${path} for a copy of it`, {
    hint: `free ${Math.ceil(needed / 1_000_000)} MB; the copy is removed when the backup is made`,
  });
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return 0;
    throw error;
  }
}

async function removeCopy(copy: string): Promise<void> {
  for (const suffix of ['', '-journal', '-wal', '-shm']) await rm(`${copy}${suffix}`, { force: true });
}

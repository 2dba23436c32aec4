/**
 * The database of a test's key server: the SQLite file of its data directory or, when the run names a PostgreSQL, a
 * database there that belongs to the directory. A test that looks into the database does it here, on either.
 */
import { createHash } from 'node:crypto';
import { cp, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Client } from 'pg';
import { type Store, openPostgresStore, openStore } from '../keyserver/db/store.ts';

/** URL of a PostgreSQL for databases of tests; unset = SQLite. */
const POSTGRES_VARIABLE = 'LATCHKEY_TEST_POSTGRES';

export type DatabaseKind = 'SQLite' | 'PostgreSQL';

/** What the key servers of this run keep their data in. */
export function databaseKind(): DatabaseKind {
  return process.env[POSTGRES_VARIABLE] === undefined ? 'SQLite' : 'PostgreSQL';
}

/** Lets the key servers that this process starts from now on use databases of a PostgreSQL. */
export function useTestPostgres(url: string): void {
  process.env[POSTGRES_VARIABLE] = url;
}

/** Where the data of a directory is: null = in the directory. Makes the database if there is none. */
export async function serverDatabaseUrl(dataDirectory: string): Promise<string | null> {
  if (databaseKind() === 'SQLite') return null;
  const name = databaseName(dataDirectory);
  const exists = await onPostgres(postgresUrl('postgres'), (client) =>
    client.query('select from pg_database where datname = $1', [name]),
  );
  if (exists.rowCount === 0) await onServer(`create database ${name}`);
  return postgresUrl(name);
}

/** Removes the database of a directory; all else in the directory stays. */
export async function removeServerDatabase(dataDirectory: string): Promise<void> {
  if (databaseKind() === 'PostgreSQL') {
    await onServer(`drop database if exists ${databaseName(dataDirectory)} with (force)`);
  }
  for (const suffix of ['', '-wal', '-shm']) {
    await rm(`${sqliteFile(dataDirectory)}${suffix}`, { force: true });
  }
}

/** Copies the data directory of a stopped key server with its database, in place of what is there. */
export async function copyServerData(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true });
  if (databaseKind() === 'SQLite') return;
  await onServer(`drop database if exists ${databaseName(to)} with (force)`);
  await onServer(`create database ${databaseName(to)} template ${databaseName(from)}`);
}

/** Runs statements on the database of a stopped key server. */
export async function changeServerDatabase(dataDirectory: string, sql: string): Promise<void> {
  if (databaseKind() === 'PostgreSQL') {
    await onPostgres(postgresUrl(databaseName(dataDirectory)), (client) => client.query(sql));
    return;
  }
  const file = new DatabaseSync(sqliteFile(dataDirectory));
  try {
    file.exec(sql);
  } finally {
    file.close();
  }
}

/** Opens the database of a stopped key server as the server does. */
export function openServerStore(dataDirectory: string): Promise<Store> {
  return databaseKind() === 'SQLite'
    ? openStore(sqliteFile(dataDirectory))
    : openPostgresStore(postgresUrl(databaseName(dataDirectory)));
}

/** Opens a database without a key server, and makes it. */
export async function openNewStore(dataDirectory: string): Promise<Store> {
  await serverDatabaseUrl(dataDirectory);
  return openServerStore(dataDirectory);
}

function sqliteFile(dataDirectory: string): string {
  return join(dataDirectory, 'latchkey.db');
}

function databaseName(dataDirectory: string): string {
  return `data_${createHash('sha256').update(resolve(dataDirectory)).digest('hex').slice(0, 24)}`;
}

function postgresUrl(database: string): string {
  const url = new URL(process.env[POSTGRES_VARIABLE] ?? '');
  url.pathname = `/${database}`;
  return url.href;
}

async function onServer(sql: string): Promise<void> {
  await onPostgres(postgresUrl('postgres'), (client) => client.query(sql));
}

async function onPostgres<Result>(url: string, work: (client: Client) => Promise<Result>): Promise<Result> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** A database as an earlier version of the key server left it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kysely, sql } from 'kysely';
import { DEFAULT_MIGRATION_TABLE, Migrator } from 'kysely/migration';
import { MIGRATIONS } from '../../keyserver/db/migrate.ts';
import { postgresDialect, postgresHosts } from '../../keyserver/db/postgres-database.ts';
import { openSqlite, sqliteDialect } from '../../keyserver/db/sqlite-database.ts';
import { databaseKind, removeServerDatabase, serverDatabaseUrl } from '../../lab/server-database.ts';

/** Gives the database of a data directory the schema that it had after this migration; what later ones have added is gone. */
export async function undoMigrations(dataDirectory: string, last: string): Promise<void> {
  const early = await schemaUpTo(last);
  await withDatabase(dataDirectory, async (database) => {
    if (databaseKind() === 'SQLite') await sql`pragma foreign_keys = off`.execute(database);
    const current = await readSchema(database);
    for (const [name, { type }] of current) {
      if (early.has(name)) continue;
      const cascade = databaseKind() === 'SQLite' ? '' : 'cascade';
      await sql`drop ${sql.raw(type)} if exists ${sql.ref(name)} ${sql.raw(cascade)}`.execute(database);
    }
    for (const [name, { columns }] of early) {
      const added = current.get(name)?.columns.filter((column) => !columns.includes(column)) ?? [];
      for (const column of added) {
        await sql`alter table ${sql.ref(name)} drop column ${sql.ref(column)}`.execute(database);
      }
    }
    for (const [name, { definition }] of early) {
      if (definition !== null && !current.has(name)) await sql.raw(definition).execute(database);
    }
    await sql`delete from ${sql.ref(DEFAULT_MIGRATION_TABLE)} where name > ${last}`.execute(database);
  });
}

/** Tables and indexes by name; an index has no columns of its own here, but the statement that makes it. */
type Schema = ReadonlyMap<string, SchemaContent>;

interface SchemaContent {
  readonly type: 'index' | 'table';
  readonly columns: readonly string[];
  readonly definition: string | null;
}

async function schemaUpTo(last: string): Promise<Schema> {
  const dataDirectory = await mkdtemp(join(tmpdir(), 'latchkey-old-'));
  const schema = await withDatabase(dataDirectory, async (database) => {
    const provider = { getMigrations: () => Promise.resolve({ ...MIGRATIONS }) };
    await new Migrator({ db: database, provider }).migrateTo(last);
    return readSchema(database);
  });
  await removeServerDatabase(dataDirectory);
  await rm(dataDirectory, { recursive: true });
  return schema;
}

async function readSchema(database: Kysely<unknown>): Promise<Schema> {
  const indexes = await (
    databaseKind() === 'SQLite'
      ? sql<NamedIndex>`select name, sql as definition from sqlite_master where type = 'index' and sql is not null`
      : sql<NamedIndex>`select i.indexname as name, i.indexdef as definition from pg_indexes i
          where i.schemaname = 'public' and not exists
          (select from pg_constraint c where c.conname = i.indexname)`
  ).execute(database);
  const tables = await database.introspection.getTables({ withInternalKyselyTables: true });
  return new Map<string, SchemaContent>([
    ...indexes.rows.map(({ name, definition }): [string, SchemaContent] => [
      name,
      { type: 'index', columns: [], definition },
    ]),
    ...tables.map(({ name, columns }): [string, SchemaContent] => [
      name,
      { type: 'table', columns: columns.map((column) => column.name), definition: null },
    ]),
  ]);
}

interface NamedIndex {
  readonly name: string;
  readonly definition: string;
}

/** Does something with the database of a data directory whose key server is stopped. */
export async function withDatabase<Result>(
  dataDirectory: string,
  work: (database: Kysely<unknown>) => Promise<Result>,
): Promise<Result> {
  const url = await serverDatabaseUrl(dataDirectory);
  const dialect =
    url === null
      ? sqliteDialect(openSqlite(join(dataDirectory, 'latchkey.db')).database)
      : postgresDialect(postgresHosts(url));
  const database = new Kysely<unknown>({ dialect });
  try {
    return await work(database);
  } finally {
    await database.destroy();
  }
}

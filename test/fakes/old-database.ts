/** A database as an earlier version of the key server left it. */
import { DatabaseSync } from 'node:sqlite';
import { Kysely, SqliteDialect } from 'kysely';
import { DEFAULT_MIGRATION_TABLE, Migrator } from 'kysely/migration';
import { MIGRATIONS } from '../../keyserver/db/migrate.ts';
import { openSqlite } from '../../keyserver/db/sqlite-database.ts';

/** Takes out of a database file every table, index and column that migrations after this one have added. */
export async function undoMigrations(path: string, last: string): Promise<void> {
  const early = await schemaUpTo(last, `${path}.early`);
  withDatabase(path, (database) => {
    database.exec('PRAGMA foreign_keys = OFF');
    const current = readSchema(database);
    for (const [name, { type }] of current) {
      if (!early.has(name)) database.exec(`DROP ${type} IF EXISTS "${name}"`);
    }
    for (const [name, { columns }] of early) {
      const added = current.get(name)?.columns.filter((column) => !columns.includes(column)) ?? [];
      for (const column of added) database.exec(`ALTER TABLE "${name}" DROP COLUMN "${column}"`);
    }
    database.prepare(`DELETE FROM ${DEFAULT_MIGRATION_TABLE} WHERE name > ?`).run(last);
  });
}

/** Tables and indexes by name; an index has no columns of its own here. */
type Schema = ReadonlyMap<string, { readonly type: string; readonly columns: readonly string[] }>;

async function schemaUpTo(last: string, path: string): Promise<Schema> {
  const database = new Kysely<unknown>({ dialect: new SqliteDialect({ database: openSqlite(path) }) });
  const provider = { getMigrations: () => Promise.resolve({ ...MIGRATIONS }) };
  await new Migrator({ db: database, provider }).migrateTo(last);
  await database.destroy();
  return withDatabase(path, readSchema);
}

function readSchema(database: DatabaseSync): Schema {
  const objects = database
    .prepare("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type")
    .all() as { type: string; name: string }[];
  const columns = database.prepare('SELECT name FROM pragma_table_info(?)');
  return new Map(
    objects.map(({ type, name }) => {
      const rows = type === 'table' ? (columns.all(name) as { name: string }[]) : [];
      return [name, { type, columns: rows.map((row) => row.name) }];
    }),
  );
}

function withDatabase<Result>(path: string, work: (database: DatabaseSync) => Result): Result {
  const database = new DatabaseSync(path);
  try {
    return work(database);
  } finally {
    database.close();
  }
}

/** All that a stopped key server has in its database. */
import { sql } from 'kysely';
import { openServerStore } from '../../lab/server-database.ts';

export type StoredRow = Readonly<Record<string, unknown>>;

/** Every row of every table, by the name of the table. */
export async function storedRows(dataDirectory: string): Promise<ReadonlyMap<string, readonly StoredRow[]>> {
  const store = await openServerStore(dataDirectory);
  try {
    const tables = await store.read.introspection.getTables();
    const entries = tables.map(async ({ name }) => {
      const { rows } = await sql<StoredRow>`select * from ${sql.table(name)}`.execute(store.read);
      return [name, rows] as const;
    });
    return new Map(await Promise.all(entries));
  } finally {
    await store.close();
  }
}

/** Meters that nodes report to: only those that the vendor opens to them. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .alterTable('meter')
    .addColumn('is_open_to_nodes', 'integer', (column) => column.notNull().defaultTo(0))
    .execute();
}

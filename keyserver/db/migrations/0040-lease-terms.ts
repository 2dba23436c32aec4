/**
 * How long the offline bundles of a license may live, and when its leases are renewed. Both begin as what was so before:
 * no limit of its own, and a third of a lease's life.
 */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const table of ['license', 'policy']) {
    await database.schema.alterTable(table).addColumn('offline_max_ms', 'integer').execute();
    await database.schema
      .alterTable(table)
      .addColumn('renew_after_percent', 'integer', (column) => column.notNull().defaultTo(33))
      .execute();
  }
}

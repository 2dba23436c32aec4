/** How long the offline bundles of a license may live. Nothing is written: null is what was so before. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const table of ['license', 'policy']) {
    await database.schema.alterTable(table).addColumn('offline_max_ms', 'integer').execute();
  }
}

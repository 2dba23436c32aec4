/** Offline bundles that are for so many starts of containers; those of before are for any number. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('offline_bundle').addColumn('max_starts', 'integer').execute();
}

/** Which versions a license covers, and until when releases of its product come under it. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('license').addColumn('version_constraint', 'text').execute();
  await database.schema.alterTable('license').addColumn('maintenance_until_ms', 'integer').execute();
}

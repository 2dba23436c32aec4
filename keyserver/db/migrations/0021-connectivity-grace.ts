/** How long leases may be used beyond their end where the key server cannot be reached. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  // Null = not at all.
  await database.schema.alterTable('license').addColumn('connectivity_grace_ms', 'integer').execute();
  await database.schema.alterTable('lease').addColumn('usable_until_ms', 'integer').execute();
}

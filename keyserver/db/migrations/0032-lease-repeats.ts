/** A lease is given a second time to a node that has lost the answer, and not a third. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  // Null = it was given once.
  await database.schema.alterTable('lease').addColumn('repeated_at_ms', 'integer').execute();
}

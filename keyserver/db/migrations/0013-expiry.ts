/** How long a license lasts, what its term counts from, and what is left of it afterwards. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('license').addColumn('duration_ms', 'integer').execute();
  await database.schema
    .alterTable('license')
    .addColumn('expiration_basis', 'text', (column) => column.notNull().defaultTo('creation'))
    .execute();
  await database.schema
    .alterTable('license')
    .addColumn('expiration_strategy', 'text', (column) => column.notNull().defaultTo('revoke-access'))
    .execute();
  await database.schema
    .alterTable('license')
    .addColumn('expiry_grace_ms', 'integer', (column) => column.notNull().defaultTo(0))
    .execute();
  // Null = the term has not begun.
  await database.schema.alterTable('license').addColumn('term_started_at_ms', 'integer').execute();
}

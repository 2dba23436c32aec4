/** How many installations and nodes at once a license allows, and how far it may be overdrawn. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('license').addColumn('max_installations', 'integer').execute();
  await database.schema.alterTable('license').addColumn('max_concurrent', 'integer').execute();
  await database.schema
    .alterTable('license')
    .addColumn('overage', 'text', (column) => column.notNull().defaultTo('none'))
    .execute();
  // Who holds a lease of a license now, out of all that were ever cut from it.
  await database.schema
    .createIndex('lease_by_license')
    .on('lease')
    .columns(['license_id', 'expires_at_ms'])
    .execute();
}

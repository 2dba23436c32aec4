/** Bundles that were made for nodes without a line, and the leases in each. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('offline_bundle')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('revision', 'integer', (column) => column.notNull())
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addColumn('updated_at_ms', 'integer', (column) => column.notNull())
    .addColumn('license_id', 'text', (column) => column.notNull().references('license.id'))
    .addColumn('epoch', 'integer', (column) => column.notNull())
    .addColumn('node_id', 'text', (column) => column.notNull().references('node.id'))
    .addColumn('sequence', 'integer', (column) => column.notNull())
    .addColumn('leases', 'integer', (column) => column.notNull())
    .addColumn('expires_at_ms', 'integer', (column) => column.notNull())
    .addUniqueConstraint('offline_bundle_sequence', ['node_id', 'sequence'])
    .execute();
  await database.schema
    .createIndex('offline_bundle_license_id')
    .on('offline_bundle')
    .columns(['license_id', 'id'])
    .execute();
  await database.schema
    .alterTable('lease')
    .addColumn('offline_bundle_id', 'text', (column) => column.references('offline_bundle.id'))
    .execute();
}

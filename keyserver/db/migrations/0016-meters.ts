/** Meters of licenses, and the reports that they are the sum of. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('meter')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('revision', 'integer', (column) => column.notNull())
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addColumn('updated_at_ms', 'integer', (column) => column.notNull())
    .addColumn('license_id', 'text', (column) => column.notNull().references('license.id'))
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('used', 'integer', (column) => column.notNull())
    .addColumn('max_used', 'integer')
    .addUniqueConstraint('meter_name', ['license_id', 'name'])
    .execute();
  await database.schema
    .createTable('usage_report')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('license_id', 'text', (column) => column.notNull().references('license.id'))
    .addColumn('meter', 'text', (column) => column.notNull())
    .addColumn('report_id', 'text', (column) => column.notNull())
    .addColumn('amount', 'integer', (column) => column.notNull())
    .addColumn('total', 'integer', (column) => column.notNull())
    .addColumn('reported_at_ms', 'integer', (column) => column.notNull())
    .addUniqueConstraint('usage_report_once', ['license_id', 'meter', 'report_id'])
    .execute();
  await database.schema
    .createIndex('usage_report_by_license')
    .on('usage_report')
    .columns(['license_id', 'id'])
    .execute();
}

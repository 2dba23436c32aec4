/** What nodes have reported about licenses that they refuse starts under. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('plaintext_report')
    .addColumn('license_id', 'text', (column) => column.notNull().references('license.id'))
    .addColumn('node_id', 'text', (column) => column.notNull().references('node.id'))
    .addColumn('epoch', 'integer', (column) => column.notNull())
    .addColumn('denial_code', 'text', (column) => column.notNull())
    .addColumn('starts_refused_at_ms', 'integer', (column) => column.notNull())
    .addColumn('running_containers', 'integer', (column) => column.notNull())
    .addColumn('plaintext_layers', 'integer', (column) => column.notNull())
    .addColumn('plaintext_gone_at_ms', 'integer')
    .addColumn('reported_at_ms', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('plaintext_report_key', ['license_id', 'node_id'])
    .execute();
}

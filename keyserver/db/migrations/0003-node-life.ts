/** Join tokens, how each node was last heard, and where a node belongs. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('join_token')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('revision', 'integer', (column) => column.notNull())
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addColumn('updated_at_ms', 'integer', (column) => column.notNull())
    .addColumn('license_id', 'text', (column) => column.notNull().references('license.id'))
    .addColumn('token_digest', 'text', (column) => column.notNull().unique())
    .addColumn('uses_left', 'integer', (column) => column.notNull())
    .addColumn('expires_at_ms', 'integer', (column) => column.notNull())
    .addColumn('revoked_at_ms', 'integer')
    .addColumn('last_node_id', 'text')
    .execute();
  await database.schema
    .createTable('node_session')
    .addColumn('node_id', 'text', (column) => column.primaryKey().references('node.id'))
    .addColumn('sequence', 'integer', (column) => column.notNull())
    .addColumn('token', 'text', (column) => column.notNull())
    .addColumn('previous_token', 'text', (column) => column.notNull())
    .addColumn('opened_by', 'text', (column) => column.notNull())
    .addColumn('machine', 'text', (column) => column.notNull())
    .addColumn('boot', 'text', (column) => column.notNull())
    .addColumn('boot_time_ms', 'integer', (column) => column.notNull())
    .addColumn('counter', 'integer', (column) => column.notNull())
    .addColumn('window', 'integer', (column) => column.notNull())
    .execute();
  await database.schema.alterTable('node').addColumn('installation', 'text').execute();
}

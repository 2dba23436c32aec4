/** Who can open the root key: each row in another way, and any of them. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('root_key_slot')
    .addColumn('id', 'text', (column) => column.notNull().primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('label', 'text', (column) => column.notNull().unique())
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addColumn('key_check', 'text')
    .addColumn('wrapped_root_key', 'blob')
    .addColumn('parameters', 'text', (column) => column.notNull())
    .execute();
}

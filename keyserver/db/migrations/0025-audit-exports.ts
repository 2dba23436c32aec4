/** How far each copy of the audit log has come. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('audit_export')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('is_configured', 'integer', (column) => column.notNull())
    .addColumn('position', 'integer', (column) => column.notNull())
    .addColumn('delivered_at_ms', 'integer')
    .addColumn('failing_since_ms', 'integer')
    .addColumn('failure', 'text')
    .execute();
}

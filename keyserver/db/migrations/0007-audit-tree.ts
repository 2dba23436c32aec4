/** The key that signs checkpoints of the audit log, and the full tiles of its tree. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('audit_key')
    .addColumn('organization_id', 'text', (column) => column.primaryKey().references('organization.id'))
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addColumn('wrapped_key', 'blob', (column) => column.notNull())
    .execute();
  // Events from before are in the tree too: it is computed from them at the next start.
  await database.schema
    .createTable('audit_tile')
    .addColumn('level', 'integer', (column) => column.notNull())
    .addColumn('tile_index', 'integer', (column) => column.notNull())
    .addColumn('root', 'blob', (column) => column.notNull())
    .addPrimaryKeyConstraint('audit_tile_key', ['level', 'tile_index'])
    .execute();
}

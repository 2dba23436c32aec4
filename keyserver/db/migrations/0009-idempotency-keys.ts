/** Answers to requests that came with an Idempotency-Key, so that a repeat gets the same one. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('idempotent_answer')
    .addColumn('key_digest', 'text', (column) => column.notNull().primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('request_digest', 'text', (column) => column.notNull())
    .addColumn('sealed_answer', 'blob', (column) => column.notNull())
    .addColumn('expires_at_ms', 'integer', (column) => column.notNull())
    .execute();
  await database.schema
    .createIndex('idempotent_answer_by_expiry')
    .on('idempotent_answer')
    .column('expires_at_ms')
    .execute();
}

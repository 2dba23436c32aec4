/** Challenges that were answered, so that none is good twice at whichever key server. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('used_challenge')
    .addColumn('nonce', 'text', (column) => column.notNull().primaryKey())
    .addColumn('expires_at_ms', 'integer', (column) => column.notNull())
    .execute();
  await database.schema
    .createIndex('used_challenge_by_expiry')
    .on('used_challenge')
    .column('expires_at_ms')
    .execute();
}

/** A revoked API token keeps its row: the audit log names tokens by their ids alone. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('api_token').addColumn('revoked_at_ms', 'integer').execute();
}

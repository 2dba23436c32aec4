/** By which request and which credential an audit event came about; events of before keep their hashes without them. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const column of ['auth_method', 'request_id']) {
    await database.schema.alterTable('audit_event').addColumn(column, 'text').execute();
  }
}

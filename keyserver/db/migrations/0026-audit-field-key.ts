/** The key under which the audit log conceals what tells of people. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  // Made at the next start; events from before stay as they are, for a log that is changed is none.
  await database.schema.alterTable('audit_key').addColumn('wrapped_field_key', 'blob').execute();
}

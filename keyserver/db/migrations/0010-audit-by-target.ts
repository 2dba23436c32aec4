/** The history of one object is read without reading the log of all. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createIndex('audit_event_by_target')
    .on('audit_event')
    .columns(['target', 'sequence'])
    .execute();
}

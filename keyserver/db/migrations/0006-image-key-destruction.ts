/** When an image key is to be destroyed. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('image_key').addColumn('destroy_at_ms', 'integer').execute();
}

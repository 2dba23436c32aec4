/** Tags and metadata of licenses, for the vendor's own books. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('license').addColumn('metadata', 'text').execute();
  await database.schema
    .createTable('license_tag')
    .addColumn('license_id', 'text', (column) => column.notNull().references('license.id'))
    .addColumn('tag', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('license_tag_once', ['license_id', 'tag'])
    .execute();
  await database.schema
    .createIndex('license_tag_by_tag')
    .on('license_tag')
    .columns(['tag', 'license_id'])
    .execute();
}

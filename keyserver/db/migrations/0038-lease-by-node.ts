/** The newest lease of a node, and the end of what it has of a license, are found without reading all that it ever had. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createIndex('lease_by_node_in_order')
    .on('lease')
    .columns(['node_id', 'id'])
    .execute();
  await sql`create index lease_by_node_and_end on lease (node_id, license_id, (coalesce(usable_until_ms, expires_at_ms)))`.execute(
    database,
  );
  // What the last one does too.
  await database.schema.dropIndex('lease_by_node_and_license').execute();
}

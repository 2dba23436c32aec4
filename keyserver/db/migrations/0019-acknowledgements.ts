/** Up to which change each node has said that it does as the key server says; and leases are found by node and license. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('node').addColumn('acknowledged_revision', 'integer').execute();
  await database.schema.alterTable('node').addColumn('acknowledged_at_ms', 'integer').execute();
  await database.schema
    .createIndex('lease_by_node_and_license')
    .on('lease')
    .columns(['node_id', 'license_id'])
    .execute();
}

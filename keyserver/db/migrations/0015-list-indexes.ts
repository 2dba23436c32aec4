/** Lists by owner, and the audit log by who did what, are read in the order of ids without reading everything. */
import { type Kysely, sql } from 'kysely';

/** By what a list is filtered, with what it is in the order of. */
const INDEXES = [
  ['license_by_customer', 'license', ['customer_id', 'id']],
  ['license_by_product', 'license', ['product_id', 'id']],
  ['release_by_product', 'release', ['product_id', 'id']],
  ['lease_by_license_in_order', 'lease', ['license_id', 'id']],
  ['join_token_by_license', 'join_token', ['license_id', 'id']],
  ['audit_event_by_actor', 'audit_event', ['actor', 'sequence']],
  ['audit_event_by_action', 'audit_event', ['action', 'sequence']],
] as const;

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const [name, table, columns] of INDEXES) {
    await database.schema
      .createIndex(name)
      .on(table)
      .columns([...columns])
      .execute();
  }
  // What the first index does too.
  await database.schema.dropIndex('license_customer_id').execute();
  // Most events are allowed starts, which need no index to be found.
  for (const outcome of ['denied', 'done'] as const) {
    await database.schema
      .createIndex(`audit_event_${outcome}`)
      .on('audit_event')
      .column('sequence')
      .where(sql.ref('outcome'), '=', sql.lit(outcome))
      .execute();
  }
}

/** What a suspended license was before: one that no node had used yet is not in use because it is reinstated. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('license').addColumn('state_before_suspension', 'text').execute();
  // Each node keeps its newest lease, so a license without any was never in use.
  await sql`update license set state_before_suspension = 'PENDING' where state = 'SUSPENDED'
    and not exists (select 1 from license_node where license_id = license.id)
    and not exists (select 1 from lease where license_id = license.id)`.execute(database);
}

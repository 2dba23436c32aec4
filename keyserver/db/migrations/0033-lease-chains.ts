/** Finds what follows a lease. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  // Of renewals alone: starts follow nothing and must not pay for it.
  await sql`create index lease_by_previous on lease (previous_lease_id) where previous_lease_id is not null`.execute(
    database,
  );
}

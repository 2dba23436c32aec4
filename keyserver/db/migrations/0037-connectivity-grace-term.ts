/** Connectivity grace is a term like the others: policies give it, and a license that was sold one owns it. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .alterTable('policy')
    .addColumn('connectivity_grace_ms', 'integer', (column) => column.notNull().defaultTo(0))
    .execute();
  // The names of own terms are sorted, and this one comes first.
  await sql`update license
    set own_terms = case when own_terms is null then 'connectivityGraceMs' else 'connectivityGraceMs ' || own_terms end
    where connectivity_grace_ms > 0`.execute(database);
  await sql`update license set connectivity_grace_ms = 0 where connectivity_grace_ms is null`.execute(
    database,
  );
}

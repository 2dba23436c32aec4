/** Takes the changed terms of a policy over into its licenses. */
import { sql } from 'kysely';
import { TERM_NAMES } from '#src/licensing/license-terms.ts';
import type { TermColumns } from '../db/tables/term-columns.ts';
import type { Writer } from '../db/store.ts';
import { fromCodeColumn } from './code-list.ts';
import { END_OF_TERM, termStartColumn } from './license-term.ts';
import { TERM_COLUMNS } from './term-columns.ts';

export interface PolicyChange {
  readonly policyId: string;
  readonly columns: TermColumns;
  readonly revision: number;
  readonly nowMs: number;
}

/**
 * Changes the licenses under a policy, revoked ones apart: what they were stays to be seen. Licenses with the same own
 * terms change together.
 * @returns how many there were
 */
export async function changeLicensesOfPolicy(
  writer: Writer,
  { policyId, columns, revision, nowMs }: PolicyChange,
): Promise<number> {
  const groups = await writer
    .selectFrom('license')
    .select('own_terms')
    .distinct()
    .where('policy_id', '=', policyId)
    .where('state', '!=', 'REVOKED')
    .execute();
  let licenses = 0;
  for (const { own_terms: ownTerms } of groups) {
    const own = fromCodeColumn(ownTerms);
    const inherited = TERM_NAMES.filter((name) => !own.includes(name)).map((name) => TERM_COLUMNS[name]);
    const group = writer
      .updateTable('license')
      .where('policy_id', '=', policyId)
      .where('state', '!=', 'REVOKED')
      .where(sql<boolean>`coalesce(own_terms, '') = ${ownTerms ?? ''}`);
    const { numUpdatedRows } = await group
      .set((column) => ({
        ...(Object.fromEntries(inherited.map((name) => [name, columns[name]])) as Partial<TermColumns>),
        epoch: column('epoch', '+', 1),
        revision,
        updated_at_ms: nowMs,
      }))
      .executeTakeFirst();
    licenses += Number(numUpdatedRows);
    // Both from what has just been written.
    await group.set({ term_started_at_ms: termStartColumn }).execute();
    if (own.includes(END_OF_TERM)) continue;
    await group.set({ expires_at_ms: sql<number | null>`term_started_at_ms + duration_ms` }).execute();
  }
  return licenses;
}

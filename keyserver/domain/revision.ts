/** The organization's revision: one number that grows with every change, so that "newer" has a meaning. */
import { preparedQuery } from '../db/prepared-query.ts';
import type { Writer } from '../db/store.ts';

/** Counts one change and gives the new revision. */
export async function nextRevision(writer: Writer, organizationId: string, nowMs: number): Promise<number> {
  const [row] = await countRevision(writer, { organizationId, nowMs });
  if (row === undefined) throw new TypeError('the database has lost its organization');
  return row.revision;
}

const countRevision = preparedQuery(
  (writer, change: { readonly organizationId: string; readonly nowMs: number }) =>
    writer
      .updateTable('organization')
      .set((column) => ({ revision: column('revision', '+', 1), updated_at_ms: change.nowMs }))
      .where('id', '=', change.organizationId)
      .returning('revision'),
);

/** The organization's revision: one number that grows with every change, so that "newer" has a meaning. */
import type { Writer } from '../db/store.ts';

/** Counts one change and gives the new revision. */
export async function nextRevision(writer: Writer, organizationId: string, nowMs: number): Promise<number> {
  const { revision } = await writer
    .updateTable('organization')
    .set((column) => ({ revision: column('revision', '+', 1), updated_at_ms: nowMs }))
    .where('id', '=', organizationId)
    .returning('revision')
    .executeTakeFirstOrThrow();
  return revision;
}

/** What makes of an older database a new beginning: nodes trust it again, and what was given out before is void. */
import { sql } from 'kysely';
import { type AuditDetail, appendAuditEvent } from '../audit/append-event.ts';
import type { Writer } from '../db/store.ts';
import type { KeyServer } from './key-server.ts';
import { runChange } from './change.ts';

/** More changes than happen between a backup and its restore; so nodes have seen none that is newer. */
const REVISION_LEAP = 1_000_000_000;

/**
 * Lets nodes trust this server that have seen more of it than it remembers: its revision leaps ahead of all that they have
 * seen, and the next session of each opens wherever the node stands. Every license gets an epoch that none of its leases
 * and bundles has, so those of before are void, also the ones that this database does not know.
 * @returns the revision of before
 */
export async function beginAnew(writer: Writer, organizationId: string, nowMs: number): Promise<number> {
  const { revision: before } = await writer
    .selectFrom('organization')
    .select('revision')
    .where('id', '=', organizationId)
    .executeTakeFirstOrThrow();
  // Time goes on while revisions and epochs begin again, so that the same backup can be restored twice. Neither grows faster.
  const revision = Math.max(before + REVISION_LEAP, nowMs);
  await writer
    .updateTable('organization')
    .set({ revision, updated_at_ms: nowMs })
    .where('id', '=', organizationId)
    .execute();
  await writer
    .updateTable('license')
    .set({
      epoch: sql<number>`case when epoch < ${nowMs} then ${nowMs} else epoch + 1 end`,
      revision,
      updated_at_ms: nowMs,
    })
    .where('organization_id', '=', organizationId)
    .execute();
  await writer.deleteFrom('node_session').execute();
  return before;
}

/** Does so for a database that an operator has put in place on purpose. */
export function acceptRestore(server: KeyServer): Promise<void> {
  return runChange(server, 'system', async (change) => {
    const { writer, organizationId, nowMs } = change;
    const revision = await beginAnew(writer, organizationId, nowMs);
    await change.audit({
      action: 'organization.after-restore',
      target: organizationId,
      detail: { revision },
    });
  });
}

/** Notes what was restored, in the log that was restored. */
export async function noteRestore(
  writer: Writer,
  organizationId: string,
  nowMs: number,
  detail: AuditDetail,
): Promise<void> {
  await appendAuditEvent(writer, organizationId, nowMs, {
    actor: 'system',
    action: 'organization.restore',
    target: organizationId,
    outcome: 'done',
    detail,
  });
}

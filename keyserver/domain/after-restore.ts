/** What an operator confirms who has put an older database in place on purpose. */
import type { KeyServer } from './key-server.ts';
import { runChange } from './change.ts';

/** More changes than happen between a backup and its restore; so nodes have seen none that is newer. */
const REVISION_LEAP = 1_000_000_000;

/**
 * Lets nodes trust this server again that have seen more of it than it remembers: its revision leaps ahead of all that
 * they have seen, and the next session of each opens wherever the node stands.
 */
export function acceptRestore(server: KeyServer): Promise<void> {
  return runChange(server, 'system', async (change) => {
    const { writer, organizationId } = change;
    const before = await change.nextRevision();
    await writer
      .updateTable('organization')
      .set({ revision: before + REVISION_LEAP })
      .where('id', '=', organizationId)
      .execute();
    await writer.deleteFrom('node_session').execute();
    await change.audit({
      action: 'organization.after-restore',
      target: organizationId,
      detail: { revision: before },
    });
  });
}

/** Up to which change each node has said that it does as the key server says. */
import { LatchkeyError } from '#src/base/errors.ts';
import { nodeDenial } from '#src/licensing/decide.ts';
import { type ChainPosition, isNewest } from '#src/licensing/node-chain.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import { loadNode, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { serverRollback, sessionStale } from './node-sessions.ts';
import { loadSession } from './session-row.ts';

export interface Acknowledgement {
  /** Of a change that the node has heard and acted upon, and all before it. */
  readonly revision: number;
  readonly position: ChainPosition | undefined;
}

/**
 * Keeps the highest revision that a node has acknowledged; an older one or the same again changes nothing. A banned node
 * may, and should; one that stands in an older session may not: that can be a copy of the node.
 * @throws LatchkeyError INPUT_MALFORMED, DENIED_NODE_UNKNOWN, DENIED_SERVER_ROLLBACK, STATE_SESSION_STALE
 */
export async function acknowledgeRevision(
  server: KeyServer,
  identity: NodeIdentity,
  { revision, position }: Acknowledgement,
): Promise<void> {
  if (!Number.isSafeInteger(revision) || revision < 1) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the revision to acknowledge is malformed');
  }
  await server.store.write(async (writer) => {
    const organization = await loadOrganization(writer, server.organizationId);
    const node = await loadNode(writer, server.organizationId, identity);
    if (node === null) {
      const denied = nodeDenial(null, organization.contact);
      throw denied === null ? new TypeError('an unknown node was let in') : denialError(denied);
    }
    if (revision > organization.revision) throw serverRollback(organization.contact);
    if (node.state === 'ACTIVE' && !isNewest(await loadSession(writer, node.nodeId), position)) {
      throw sessionStale();
    }
    await writer
      .updateTable('node')
      .set({ acknowledged_revision: revision, acknowledged_at_ms: server.clock.nowMs() })
      .where('id', '=', node.nodeId)
      .where((where) =>
        where.or([where('acknowledged_revision', 'is', null), where('acknowledged_revision', '<', revision)]),
      )
      .execute();
  });
}

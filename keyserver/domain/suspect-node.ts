/** Shuts out a node that is not what it was, until somebody has looked at it. */
import type { LatchkeyError } from '#src/base/errors.ts';
import { nodeDenial } from '#src/licensing/decide.ts';
import type { Writer } from '../db/store.ts';
import type { KnownNode } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { nextRevision } from './revision.ts';

/**
 * Notes what a node was found to be, in the transaction that has found it; publish the change of the node after it.
 * @returns what the node is told from now on
 */
export async function suspectNode(
  server: KeyServer,
  writer: Writer,
  node: KnownNode,
  state: 'RESTORED' | 'CLONED',
  contact: string,
): Promise<LatchkeyError> {
  const nowMs = server.clock.nowMs();
  await writer
    .updateTable('node')
    .set({
      state,
      revision: await nextRevision(writer, server.organizationId, nowMs),
      updated_at_ms: nowMs,
    })
    .where('id', '=', node.nodeId)
    .execute();
  const denied = nodeDenial({ ...node, state }, contact);
  if (denied === null) throw new TypeError(`a node that is ${state} was let in`);
  return denialError(denied);
}

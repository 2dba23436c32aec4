/** Sessions of nodes: how each was heard last, so that restored and copied identities are found; see node-chain.ts. */
import { randomBytes } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { nodeDenial } from '#src/licensing/decide.ts';
import {
  type ChainMark,
  type ChainOpening,
  type ChainPosition,
  type NodeSession,
  judgeOpening,
  takeCounter,
} from '#src/licensing/node-chain.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import { preparedQuery } from '../db/prepared-query.ts';
import type { Writer } from '../db/store.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import { loadNode, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { loadSession } from './session-row.ts';
import { suspectNode } from './suspect-node.ts';

const TOKEN_BYTES = 16;
/** Fingerprints are 64 hex digits, request ids 32. */
const MAX_FIELD = 128;

/**
 * Uses up the counter of a request, in the transaction of what it asks for.
 * @returns the error for a request that does not fit
 */
export async function takePosition(
  writer: Writer,
  nodeId: string,
  session: NodeSession | undefined,
  position: ChainPosition | undefined,
): Promise<LatchkeyError | undefined> {
  const mark = takeCounter(session, position);
  if (mark === 'stale') return sessionStale();
  if (mark !== 'unchanged') await keepMark(writer, { nodeId, ...mark });
  return undefined;
}

const keepMark = preparedQuery(
  (writer, { nodeId, counter, window }: ChainMark & { readonly nodeId: string }) =>
    writer.updateTable('node_session').set({ counter, window }).where('node_id', '=', nodeId),
);

/** The next session of the node, whatever it says it stands at, opens. */
export async function forgetSession(writer: Writer, nodeId: string): Promise<void> {
  await writer.deleteFrom('node_session').where('node_id', '=', nodeId).execute();
}

export function sessionStale(): LatchkeyError {
  return new LatchkeyError('STATE_SESSION_STALE', 'this node has to open its session again', {
    hint: 'the agent does it by itself',
  });
}

export interface OpenedSession {
  readonly sequence: number;
  readonly token: string;
  readonly revision: number;
}

/**
 * Opens the next session of a node, or finds out that the node is not what it was. Then it is refused from now on, until
 * somebody has looked at it.
 * @param seenRevision the highest of ours that the node knows
 * @throws LatchkeyError DENIED_NODE_*, DENIED_SERVER_ROLLBACK, INPUT_MALFORMED
 */
export async function openSession(
  server: KeyServer,
  identity: NodeIdentity,
  opening: ChainOpening,
  seenRevision: number,
): Promise<OpenedSession> {
  checkOpening(opening);
  const result = await server.store.write((writer) =>
    judgeAndRecord(server, writer, identity, opening, seenRevision),
  );
  // Streams of other sessions end with it; those of a refused node too.
  server.changes.publish([identity.nodeId]);
  if (result instanceof LatchkeyError) throw result;
  return result;
}

function checkOpening({ token, requestId, machine, boot }: ChainOpening): void {
  const isLong = [token, requestId, machine, boot].some((text) => text.length > MAX_FIELD);
  if (!isLong && ![requestId, machine, boot].includes('')) return;
  throw new LatchkeyError('INPUT_MALFORMED', 'the opening of a session is malformed');
}

async function judgeAndRecord(
  server: KeyServer,
  writer: Writer,
  identity: NodeIdentity,
  opening: ChainOpening,
  seenRevision: number,
): Promise<OpenedSession | LatchkeyError> {
  const { organizationId } = server;
  const organization = await loadOrganization(writer, organizationId);
  const node = await loadNode(writer, organizationId, identity);
  const denied = nodeDenial(node, organization.contact);
  if (denied !== null) return denialError(denied);
  if (node === null) throw new TypeError('an unknown node was let in');
  const session = await loadSession(writer, node.nodeId);
  const { revision, contact } = organization;
  const verdict = seenRevision > revision ? 'server-rollback' : judgeOpening(session, opening);
  switch (verdict) {
    case 'repeat':
      return { sequence: session?.sequence ?? 0, token: session?.token ?? '', revision };
    case 'open':
      return { ...(await insertSession(writer, node.nodeId, session, opening)), revision };
    case 'server-rollback': {
      const error = serverRollback(contact);
      await recordRefusal(server, writer, node.nodeId, opening, error.code);
      return error;
    }
    case 'restored':
    case 'cloned': {
      const state = verdict === 'restored' ? 'RESTORED' : 'CLONED';
      const error = await suspectNode(server, writer, node, state, contact);
      await recordRefusal(server, writer, node.nodeId, opening, error.code);
      return error;
    }
  }
}

async function insertSession(
  writer: Writer,
  nodeId: string,
  before: NodeSession | undefined,
  opening: ChainOpening,
): Promise<{ sequence: number; token: string }> {
  const token = randomBytes(TOKEN_BYTES).toString('hex');
  const sequence = Math.max(opening.sequence, before?.sequence ?? 0) + 1;
  const fields = {
    sequence,
    token,
    previous_token: opening.token,
    opened_by: opening.requestId,
    machine: opening.machine,
    boot: opening.boot,
    boot_time_ms: opening.bootTimeMs,
    counter: 0,
    window: 1,
  };
  await writer
    .insertInto('node_session')
    .values({ node_id: nodeId, ...fields })
    .onConflict((conflict) => conflict.column('node_id').doUpdateSet(fields))
    .execute();
  return { sequence, token };
}

/** The node has seen more of this server than this server knows. */
export function serverRollback(contact: string): LatchkeyError {
  return new LatchkeyError(
    'DENIED_SERVER_ROLLBACK',
    'the key server went back in time: it was restored from an older copy',
    {
      hint: 'its operator has to start it once with --after-restore',
      contact: contact === '' ? undefined : contact,
    },
  );
}

async function recordRefusal(
  server: KeyServer,
  writer: Writer,
  nodeId: string,
  { machine, boot, sequence }: ChainOpening,
  code: LatchkeyError['code'],
): Promise<void> {
  await appendAuditEvent(writer, server.organizationId, server.clock.nowMs(), {
    actor: `node:${nodeId}`,
    action: 'node.session',
    target: nodeId,
    outcome: 'denied',
    code,
    detail: { machine, boot, sequence },
  });
}

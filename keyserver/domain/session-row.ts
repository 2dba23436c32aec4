/** The stored session of a node. */
import type { NodeSession } from '#src/licensing/node-chain.ts';
import { preparedQuery } from '../db/prepared-query.ts';
import type { Reader } from '../db/store.ts';

/** For joins: every query about a start reads them. */
export const SESSION_COLUMNS = [
  'node_session.sequence as session_sequence',
  'node_session.token as session_token',
  'node_session.previous_token',
  'node_session.opened_by',
  'node_session.machine',
  'node_session.boot',
  'node_session.boot_time_ms',
  'node_session.counter',
  'node_session.window',
] as const;

interface SessionRow {
  readonly session_sequence: number | null;
  readonly session_token: string | null;
  readonly previous_token: string | null;
  readonly opened_by: string | null;
  readonly machine: string | null;
  readonly boot: string | null;
  readonly boot_time_ms: number | null;
  readonly counter: number | null;
  readonly window: number | null;
}

/** Undefined when the join found none. */
export function toSession(row: SessionRow): NodeSession | undefined {
  if (row.session_token === null) return undefined;
  return {
    sequence: row.session_sequence ?? 0,
    token: row.session_token,
    previousToken: row.previous_token ?? '',
    openedBy: row.opened_by ?? '',
    machine: row.machine ?? '',
    boot: row.boot ?? '',
    bootTimeMs: row.boot_time_ms ?? 0,
    counter: row.counter ?? 0,
    window: row.window ?? 0,
  };
}

/** The session of a node; undefined when it never opened one. */
export async function loadSession(reader: Reader, nodeId: string): Promise<NodeSession | undefined> {
  const [row] = await sessionRow(reader, { nodeId });
  return row && toSession(row);
}

const sessionRow = preparedQuery((reader, node: { readonly nodeId: string }) =>
  reader.selectFrom('node_session').select(SESSION_COLUMNS).where('node_id', '=', node.nodeId),
);

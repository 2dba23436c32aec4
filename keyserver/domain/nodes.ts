/** Nodes as an administrator sees them. */
import { type Selectable, type SqlBool, sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { type NodeAction, nextNodeState } from '#src/licensing/node-state.ts';
import { seatGap } from '#src/licensing/seats.ts';
import type { Node, NodeQuery } from '#src/wire/admin/node.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { Actor } from '../audit/append-event.ts';
import type { NodeTable } from '../db/tables/node.ts';
import type { Reader } from '../db/store.ts';
import { runChange } from './change.ts';
import type { KeyServer } from './key-server.ts';
import { forgetSession } from './node-sessions.ts';
import { lastLeaseAtMs, lastOf, lastReportAtMs } from './last-contact.ts';
import { allOf, isEqual, isOfOrganization } from './list-filter.ts';
import { openPage } from './page.ts';
import { loadSeats } from './seat-facts.ts';
import { fromTermColumns } from './term-columns.ts';

type NodeRow = Selectable<NodeTable> &
  Readonly<Record<'last_lease_at_ms' | 'last_report_at_ms', number | null>>;

function nodeRows(reader: Reader) {
  return reader
    .selectFrom('node')
    .selectAll('node')
    .select([lastLeaseAtMs.as('last_lease_at_ms'), lastReportAtMs.as('last_report_at_ms')]);
}

export async function listNodes(server: KeyServer, query: NodeQuery): Promise<Page<Node>> {
  const { read } = server.store;
  const page = openPage(server.cursorKey, { name: 'nodes', prefix: 'node' }, query);
  const rows = await nodeRows(read)
    .where(isOfOrganization('node.organization_id', server.organizationId))
    .where(page.isOn('node.id'))
    .where(
      allOf(
        isEqual('node.state', query.state),
        isEqual('node.installation', query.installation),
        query.license === undefined
          ? null
          : sql<SqlBool>`node.id in (select node_id from license_node where license_id = ${query.license})`,
      ),
    )
    .orderBy('id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(await toNodes(read, rows));
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function getNode({ organizationId, store }: KeyServer, nodeId: string): Promise<Node> {
  return toNode(store.read, await requireNode(store.read, organizationId, nodeId));
}

async function requireNode(reader: Reader, organizationId: string, nodeId: string): Promise<NodeRow> {
  const row = await nodeRows(reader)
    .where('organization_id', '=', organizationId)
    .where('id', '=', nodeId)
    .executeTakeFirst();
  if (row !== undefined) return row;
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no node ${JSON.stringify(nodeId)}`, {
    hint: 'see `latchkey node list`',
  });
}

const AUDIT_ACTIONS = {
  ban: 'node.ban',
  unban: 'node.unban',
  retire: 'node.retire',
  readmit: 'node.readmit',
} as const satisfies Record<NodeAction, string>;

/**
 * Bans a node, lets it in again, retires it, or readmits it after it was found restored or copied. A banned or retired node
 * gets no leases and frees its seats.
 * @throws LatchkeyError STATE_NOT_FOUND; STATE_PRECONDITION when the node's state does not allow it, or a license has no
 *   free seat for its return
 */
export async function changeNode(
  server: KeyServer,
  actor: Actor,
  nodeId: string,
  action: NodeAction,
): Promise<Node> {
  const node = await runChange(
    server,
    actor,
    async (change) => {
      const { writer, organizationId, nowMs } = change;
      const row = await requireNode(writer, organizationId, nodeId);
      const state = nextNodeState(nodeId, row.state, action);
      if (row.state === state) return toNode(writer, row);
      if (action === 'unban') await refuseFullLicenses(writer, row);
      const changed = { state, revision: await change.nextRevision(), updated_at_ms: nowMs };
      await writer.updateTable('node').set(changed).where('id', '=', nodeId).execute();
      if (action === 'retire')
        await writer.deleteFrom('license_node').where('node_id', '=', nodeId).execute();
      if (action === 'readmit') await forgetSession(writer, nodeId);
      await change.audit({ action: AUDIT_ACTIONS[action], target: nodeId });
      return toNode(writer, { ...row, ...changed });
    },
    action === 'ban' || action === 'retire' ? 'URGENT' : 'ORDINARY',
  );
  server.changes.publish([nodeId]);
  return node;
}

async function refuseFullLicenses(
  reader: Reader,
  { id: nodeId, installation }: Selectable<NodeTable>,
): Promise<void> {
  const licenses = await reader
    .selectFrom('license_node')
    .innerJoin('license', 'license.id', 'license_node.license_id')
    .selectAll('license')
    .where('license_node.node_id', '=', nodeId)
    .execute();
  for (const license of licenses) {
    const { id } = license;
    const gap = seatGap(await loadSeats(reader, id, fromTermColumns(license), { nodeId, installation }));
    if (gap === null) continue;
    throw new LatchkeyError(
      'STATE_PRECONDITION',
      `license ${id} has no free seat for node ${nodeId}: it ${gap.reason}`,
      { hint: 'ban or retire another node of this license first' },
    );
  }
}

async function toNode(reader: Reader, row: NodeRow): Promise<Node> {
  return withLicenses(row, await licensesOf(reader, [row]));
}

/** With one query for the licenses of all. */
async function toNodes(reader: Reader, rows: readonly NodeRow[]): Promise<Node[]> {
  const licenses = await licensesOf(reader, rows);
  return rows.map((row) => withLicenses(row, licenses));
}

/** Ids of licenses by the id of their node. */
async function licensesOf(
  reader: Reader,
  nodes: readonly Selectable<NodeTable>[],
): Promise<ReadonlyMap<string, readonly { license_id: string }[]>> {
  if (nodes.length === 0) return new Map();
  const ids = nodes.map(({ id }) => id);
  const rows = await reader
    .selectFrom('license_node')
    .select(['node_id', 'license_id'])
    .where('node_id', 'in', ids)
    .orderBy('license_id')
    .execute();
  return Map.groupBy(rows, (row) => row.node_id);
}

function withLicenses(row: NodeRow, licenses: Awaited<ReturnType<typeof licensesOf>>): Node {
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    name: row.name,
    state: row.state,
    installation: row.installation,
    keyThumbprint: row.key_thumbprint,
    certificateExpiresAtMs: row.certificate_expires_at_ms,
    lastContactAtMs: lastOf(row.last_lease_at_ms, row.last_report_at_ms, row.acknowledged_at_ms),
    licenseIds: (licenses.get(row.id) ?? []).map((license) => license.license_id),
  };
}

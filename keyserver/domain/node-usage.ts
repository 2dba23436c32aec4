/** Usage as nodes report it: a node counts on the meters of its own licenses that the vendor has opened to nodes. */
import { LatchkeyError } from '#src/base/errors.ts';
import { nodeDenial } from '#src/licensing/decide.ts';
import { type ChainPosition, isNewest } from '#src/licensing/node-chain.ts';
import { meterName, usageReportInputSchema } from '#src/wire/admin/meter.ts';
import type { Reader } from '../db/store.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import { runChange } from './change.ts';
import { loadNode, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { countUsage } from './meters.ts';
import { sessionStale } from './node-sessions.ts';
import { loadSession } from './session-row.ts';

export interface NodeUsage {
  /** '' = the one license of the node that has the meter. */
  readonly licenseId: string;
  readonly meter: string;
  /** Of this node: another one's reports are others. */
  readonly reportId: string;
  readonly amount: number;
  readonly position: ChainPosition | undefined;
}

export interface CountedUsage {
  readonly licenseId: string;
  /** Of the meter, with this report. */
  readonly total: number;
  readonly revision: number;
}

/**
 * Counts what a node has used. Like any report it is a fact: the state of the license does not matter, but the node's does.
 * The same report again changes nothing and gets the same answer.
 * @throws LatchkeyError INPUT_MALFORMED, DENIED_NODE_*, STATE_SESSION_STALE, STATE_NOT_FOUND, STATE_CONFLICT, LIMIT_EXCEEDED,
 *   RATE_LIMITED
 */
export function reportUsageOfNode(
  server: KeyServer,
  identity: NodeIdentity,
  usage: NodeUsage,
): Promise<CountedUsage> {
  const { meter, reportId, amount, position } = usage;
  if (
    !meterName.safeParse(meter).success ||
    !usageReportInputSchema.safeParse({ reportId, amount }).success
  ) {
    return Promise.reject(new LatchkeyError('INPUT_MALFORMED', 'the usage report is malformed'));
  }
  const { nodeId } = identity;
  return runChange(server, `node:${nodeId}`, async (change) => {
    const { writer, organizationId } = change;
    const { contact } = await loadOrganization(writer, organizationId);
    const denied = nodeDenial(await loadNode(writer, organizationId, identity), contact);
    if (denied !== null) throw denialError(denied);
    if (!isNewest(await loadSession(writer, nodeId), position)) throw sessionStale();
    const licenseId = await meteredLicense(writer, nodeId, usage);
    server.licenseRate.spend(licenseId, 'calls under this license');
    const { report } = await countUsage(change, licenseId, meter, {
      reportId: `${nodeId}:${reportId}`,
      amount,
    });
    const { revision } = await loadOrganization(writer, organizationId);
    return { licenseId, total: report.total, revision };
  });
}

async function meteredLicense(
  reader: Reader,
  nodeId: string,
  { licenseId, meter }: NodeUsage,
): Promise<string> {
  const rows = await reader
    .selectFrom('license_node')
    .innerJoin('meter', 'meter.license_id', 'license_node.license_id')
    .select('license_node.license_id')
    .where('license_node.node_id', '=', nodeId)
    .where('meter.name', '=', meter)
    .where('meter.is_open_to_nodes', '=', 1)
    .orderBy('license_node.license_id')
    .execute();
  const licenses = rows.map((row) => row.license_id).filter((id) => licenseId === '' || id === licenseId);
  const [only, second] = licenses;
  if (only === undefined) {
    const whose = licenseId === '' ? 'no license of this node has' : 'that license of this node has not';
    throw new LatchkeyError('STATE_NOT_FOUND', `${whose} a meter ${JSON.stringify(meter)} for nodes`, {
      hint: "the vendor makes it with 'latchkey license meter ... --from-nodes'",
    });
  }
  if (second === undefined) return only;
  throw new LatchkeyError('STATE_CONFLICT', `several licenses of this node have a meter ${meter}`, {
    hint: `say which one: ${licenses.join(' or ')}`,
  });
}

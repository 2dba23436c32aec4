/** Counts the seats of a license that are in use. Banned and retired nodes hold none. */
import { type AliasedRawBuilder, sql } from 'kysely';
import { SEATED_STATES } from '#src/licensing/node-state.ts';
import type { LicenseTerms } from '#src/licensing/license-terms.ts';
import type { SeatCount, SeatFacts } from '#src/licensing/seats.ts';
import { preparedQuery } from '../db/prepared-query.ts';
import type { Reader } from '../db/store.ts';

export type SeatLimits = Pick<LicenseTerms, 'maxNodes' | 'maxInstallations' | 'overage'>;

/** A node that asks for a seat. */
export interface SeatClaim {
  readonly nodeId: string;
  /** Null when it does not say where it belongs; then it is an installation of its own. */
  readonly installation: string | null;
}

/** Counts the nodes and installations of a license, for a node that is to be one of them. */
export async function loadSeats(
  reader: Reader,
  licenseId: string,
  { maxNodes, maxInstallations, overage }: SeatLimits,
  { nodeId, installation }: SeatClaim,
): Promise<SeatFacts> {
  const isThisNode = sql`license_node.node_id = ${nodeId}`;
  const isThisInstallation = sql`${installationOf} = ${installation ?? nodeId}`;
  const counts = await seatedNodes(reader)
    .select((select) => [
      select.fn.countAll<number>().as('nodes'),
      isAny(isThisNode, 'is_seated'),
      // Where it was before frees its seat there when it comes from somewhere else.
      sql<number>`count(distinct case when ${isThisNode} then null else ${installationOf} end)`.as(
        'other_installations',
      ),
      isAny(isThisInstallation, 'is_installed'),
    ])
    .where('license_node.license_id', '=', licenseId)
    .executeTakeFirstOrThrow();
  return {
    maxNodes,
    usedSeats: counts.nodes,
    heldByThisNode: counts.is_seated === 1,
    installations:
      maxInstallations === null
        ? undefined
        : { max: maxInstallations, used: counts.other_installations, held: counts.is_installed === 1 },
    overage,
  };
}

/** Counts the nodes that hold a lease of a license now, where that is limited. Those of an older epoch are void. */
export async function loadConcurrentSeats(
  reader: Reader,
  license: { readonly licenseId: string; readonly epoch: number; readonly maxConcurrent: number | null },
  nodeId: string,
  nowMs: number,
): Promise<SeatCount | undefined> {
  const { licenseId, epoch, maxConcurrent: max } = license;
  if (max === null) return undefined;
  const [row] = await leaseHolders(reader, { licenseId, epoch, nodeId, nowMs });
  return { max, used: row?.used ?? 0, held: row?.is_held === 1 };
}

interface LeaseHolderQuery {
  readonly licenseId: string;
  readonly epoch: number;
  readonly nodeId: string;
  readonly nowMs: number;
}

const leaseHolders = preparedQuery((reader, query: LeaseHolderQuery) =>
  liveLeases(reader, query.nowMs)
    .select([
      sql<number>`count(distinct lease.node_id)`.as('used'),
      isAny(sql`lease.node_id = ${query.nodeId}`, 'is_held'),
    ])
    .where('lease.license_id', '=', query.licenseId)
    .where('lease.epoch', '=', query.epoch),
);

/** Nodes that hold a seat of a license. */
export function seatedNodes(reader: Reader) {
  return reader
    .selectFrom('license_node')
    .innerJoin('node', 'node.id', 'license_node.node_id')
    .where('node.state', 'in', SEATED_STATES);
}

/** Leases that have not ended. */
export function unendedLeases(reader: Reader, nowMs: number) {
  return reader.selectFrom('lease').where('lease.expires_at_ms', '>', nowMs);
}

/** Leases that have not ended, of nodes that hold seats. */
export function liveLeases(reader: Reader, nowMs: number) {
  return unendedLeases(reader, nowMs)
    .innerJoin('node', 'node.id', 'lease.node_id')
    .where('node.state', 'in', SEATED_STATES);
}

/** By what nodes of one installation are alike. */
export const installationOf = sql<string>`coalesce(node.installation, node.id)`;

function isAny<Alias extends string>(
  condition: ReturnType<typeof sql>,
  alias: Alias,
): AliasedRawBuilder<number, Alias> {
  return sql<number>`coalesce(max(case when ${condition} then 1 else 0 end), 0)`.as(alias);
}

/** Leases of one chain that were renewed, by which a copied node is found; see src/licensing/lease-chain.ts. */
import type { ChainedLease } from '#src/licensing/lease-chain.ts';
import { preparedSetQuery } from '../db/prepared-query.ts';
import type { Reader } from '../db/store.ts';

/** Those that follow these leases, or the ones before them, and were renewed in their turn. */
export async function loadRenewedRelatives(
  reader: Reader,
  leases: readonly ChainedLease[],
): Promise<ChainedLease[]> {
  const parents = leases.flatMap(({ leaseId, previousLeaseId }) =>
    previousLeaseId === null ? [leaseId] : [leaseId, previousLeaseId],
  );
  if (parents.length === 0) return [];
  const rows = await renewedRows(reader, parents);
  return rows.map((row) => ({ leaseId: row.id, previousLeaseId: row.previous_lease_id }));
}

const renewedRows = preparedSetQuery((reader, leaseIds) =>
  reader
    .selectFrom('lease')
    .innerJoin('lease as next', 'next.previous_lease_id', 'lease.id')
    .select(['lease.id', 'lease.previous_lease_id'])
    .distinct()
    .where('lease.previous_lease_id', 'in', leaseIds),
);

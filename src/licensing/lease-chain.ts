/**
 * Renewed leases are chains: whoever renews a lease goes on with the one that follows. A node whose answer was lost renews
 * the same lease again, and one of the two that follow is never used. So when a lease is used although another one that
 * took its place, or that has the same predecessor, was used as well, two hold the identity of one node. Pure.
 */

export interface ChainedLease {
  readonly leaseId: string;
  /** The lease that it was renewed from; null = a start asked for it. */
  readonly previousLeaseId: string | null;
}

/** @param used leases that were renewed, as far as they follow this one or the one before it */
export function isLeaseCloned(lease: ChainedLease, used: readonly ChainedLease[]): boolean {
  const { leaseId, previousLeaseId } = lease;
  return used.some((other) =>
    other.previousLeaseId === null
      ? false
      : other.previousLeaseId === leaseId ||
        (other.previousLeaseId === previousLeaseId && other.leaseId !== leaseId),
  );
}

/** A lease as this node holds it, in memory only. */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { ReleaseStatement } from '#src/image/statement.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { LeaseAnchor, LeaseSubject } from './lease.ts';

export interface HeldLease {
  readonly subject: LeaseSubject;
  token: string;
  claims: LeaseClaims;
  anchor: LeaseAnchor;
  readonly imageKey: Buffer;
  /** What the release is. Leases that prolong this one are for the same. */
  readonly statement: ReleaseStatement;
  /** Receipt: the place of the decision in the key server's audit log. */
  readonly auditSequence: number;
  /** Set when the key server has said no; what the next start is told. */
  denial: LatchkeyError | undefined;
  /** Of one out of an offline bundle, which is not prolonged. */
  readonly carried?: CarriedTerms;
}

/** What only leases out of an offline bundle have. */
export interface CarriedTerms {
  /** Why no container may start under it any more. */
  startRefusal(): LatchkeyError | undefined;
  /**
   * A container starts now. Resolves when that was counted.
   * @throws LatchkeyError DENIED_OFFLINE_STARTS when the bundle allows no more; STORAGE_* when it could not be counted
   */
  countStart(): Promise<void>;
}

/** What a node gets for the leases that it has asked to renew: each signed for itself, or all with one signature. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { KeyServer } from './key-server.ts';
import { type RecordedLease, signLease, signLeaseList } from './lease-token.ts';

/** The lease that follows another one, or why there is none. */
export interface DecidedRenewal {
  readonly leaseId: string;
  readonly outcome: RecordedLease | LatchkeyError;
}

/** A signed lease that follows the old one, whole or by its place in the list, or why there is none. */
export type Renewal =
  | { readonly leaseId: string; readonly lease: string }
  | { readonly leaseId: string; readonly listedLease: number }
  | { readonly leaseId: string; readonly denial: LatchkeyError };

export interface SignedRenewals {
  readonly renewals: readonly Renewal[];
  /** Leases that share a signature, see src/crypto/sign-token.ts; empty when there are none. */
  readonly leaseList: string;
}

/** Signs each lease for itself, for nodes of before there were lists. */
export async function signEach(
  server: KeyServer,
  decided: readonly DecidedRenewal[],
): Promise<SignedRenewals> {
  const renewals = await Promise.all(
    decided.map(async ({ leaseId, outcome }): Promise<Renewal> =>
      outcome instanceof LatchkeyError
        ? { leaseId, denial: outcome }
        : { leaseId, lease: await signLease(server, outcome) },
    ),
  );
  return { renewals, leaseList: '' };
}

/** Signs all leases at once. */
export async function signAsList(
  server: KeyServer,
  decided: readonly DecidedRenewal[],
): Promise<SignedRenewals> {
  const leases: RecordedLease[] = [];
  const renewals = decided.map(({ leaseId, outcome }): Renewal =>
    outcome instanceof LatchkeyError
      ? { leaseId, denial: outcome }
      : { leaseId, listedLease: leases.push(outcome) - 1 },
  );
  return { renewals, leaseList: leases.length === 0 ? '' : await signLeaseList(server, leases) };
}

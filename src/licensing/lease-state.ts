/** What has become of a lease, at the key server. Pure. */
import type { NodeState } from './node-state.ts';

/**
 * ACTIVE: its node can start with it. SUPERSEDED: it was renewed, and the one that follows counts. VOID: its license has
 * changed since, or its node was shut out. EXPIRED: its time is up.
 */
export const LEASE_STATES = ['ACTIVE', 'SUPERSEDED', 'VOID', 'EXPIRED'] as const;
export type LeaseState = (typeof LEASE_STATES)[number];

export interface LeaseStanding {
  /** Of the license when the lease was cut, and now. */
  readonly epoch: number;
  readonly licenseEpoch: number;
  readonly nodeState: NodeState;
  readonly isRenewed: boolean;
  /** Its end, or that of the time in which a node may use it that reaches nobody. */
  readonly usableUntilMs: number;
}

/** Gives the state; one whose time is up is nothing else any more. */
export function leaseState(lease: LeaseStanding, nowMs: number): LeaseState {
  if (lease.usableUntilMs <= nowMs) return 'EXPIRED';
  if (lease.epoch !== lease.licenseEpoch || lease.nodeState !== 'ACTIVE') return 'VOID';
  return lease.isRenewed ? 'SUPERSEDED' : 'ACTIVE';
}

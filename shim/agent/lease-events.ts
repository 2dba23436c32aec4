/** What the lease keeper tells the rest of the agent. */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { HeldLease } from './held-lease.ts';

export interface LeaseKeeperEvents {
  /** A lease ended, by revocation or because its time was up. */
  readonly onEnded: (lease: HeldLease, reason: LatchkeyError) => void;
  /** The key server has allowed an image; whoever waits for the lease has not got it yet. */
  readonly onGranted?: (lease: HeldLease) => void;
  /** The key server has said no. */
  readonly onDenied?: (denial: LatchkeyError) => void;
}

/** What a node's membership is made of, and whom it tells. */
import type { Logger } from 'pino';
import type { Clock } from '#src/base/clock.ts';
import type { LatchkeyError } from '#src/base/errors.ts';
import type { AgentConfig } from './agent-config.ts';
import type { LeaseAuthority } from './lease-authority.ts';
import type { Machine } from './machine.ts';
import type { OfflineLeases } from './offline-leases.ts';

export interface MembershipParts {
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly machine: Machine;
  /** There is a line to the key server from now on, instead of the one before. */
  readonly onLine: (authority: LeaseAuthority) => void;
  /** There are leases that were carried here, perhaps; again after each import. */
  readonly onCarried: (leases: OfflineLeases) => void;
  /** An activated node has no line; it goes on trying. */
  readonly onUnavailable: (reason: LatchkeyError) => void;
}

/** How long a connection to the listeners for nodes may last. */
import { MINUTE_MS, SECOND_MS } from '#src/base/units.ts';
import { SHUTDOWN_GRACE_MS } from './limits.ts';

export interface ConnectionLimits {
  /** An enrollment connection without a call is closed after this ... */
  readonly enrollmentIdleMs: number;
  /** ... and every one after this, whatever it is in the middle of ... */
  readonly enrollmentAgeMs: number;
  /** ... but for this, in which a call may end. */
  readonly ageGraceMs: number;
  /** A connection of a node without a call; an agent has its stream, and who has none connects again for its next call. */
  readonly nodeIdleMs: number;
  /** Each is asked this often whether the other end is there, ... */
  readonly keepaliveMs: number;
  /** ... and closed when no answer comes within this. */
  readonly keepaliveTimeoutMs: number;
}

export const CONNECTION_LIMITS: ConnectionLimits = {
  // Strangers come and go; a node that enrols needs a connection for a second.
  enrollmentIdleMs: 30 * SECOND_MS,
  enrollmentAgeMs: 5 * MINUTE_MS,
  ageGraceMs: SHUTDOWN_GRACE_MS,
  nodeIdleMs: 10 * MINUTE_MS,
  // Middle boxes see that a connection is in use.
  keepaliveMs: 30 * SECOND_MS,
  keepaliveTimeoutMs: 20 * SECOND_MS,
};

/**
 * The states of a license. Four are stored; what time alone decides is derived when asked, so that no timer
 * has to run for a license to end.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { type ExpiryTerms, graceEndsAtMs } from './expiry.ts';

export const STORED_LICENSE_STATES = ['PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED'] as const;
/** PENDING: sold, no node yet. REVOKED is final: its history stays, a new license takes its place. */
export type StoredLicenseState = (typeof STORED_LICENSE_STATES)[number];

export const LICENSE_STATES = [...STORED_LICENSE_STATES, 'NOT_STARTED', 'GRACE', 'EXPIRED'] as const;
/** GRACE: past its end, and everything goes on as before until its grace ends too. */
export type LicenseState = (typeof LICENSE_STATES)[number];

export type LicenseAction = 'activate' | 'suspend' | 'reinstate' | 'revoke';

/** What a running container sees of a revocation: nothing, SIGTERM, or SIGKILL. */
export const ON_REVOKE = ['deny-start', 'stop', 'kill'] as const;
export type OnRevoke = (typeof ON_REVOKE)[number];

/** What decides the state of a license; times are milliseconds since the epoch, null = open end. */
export interface LicenseTerm extends ExpiryTerms {
  readonly state: StoredLicenseState;
  readonly startsAtMs: number | null;
}

/** State -> action -> next state; a pair that is missing is refused. */
const TRANSITIONS: Record<StoredLicenseState, Partial<Record<LicenseAction, StoredLicenseState>>> = {
  PENDING: { activate: 'ACTIVE', suspend: 'SUSPENDED', revoke: 'REVOKED' },
  ACTIVE: { activate: 'ACTIVE', suspend: 'SUSPENDED', reinstate: 'ACTIVE', revoke: 'REVOKED' },
  SUSPENDED: { suspend: 'SUSPENDED', reinstate: 'ACTIVE', revoke: 'REVOKED' },
  REVOKED: { revoke: 'REVOKED' },
};

/**
 * Gives the state after an action; the same state when the action changes nothing, so that a repeated
 * request is harmless.
 * @param before the state that a suspended license had before
 * @throws LatchkeyError STATE_PRECONDITION when the state does not allow the action
 */
export function nextLicenseState(
  licenseId: string,
  state: StoredLicenseState,
  action: LicenseAction,
  before: StoredLicenseState | null = null,
): StoredLicenseState {
  // One that no node has used yet is still not in use.
  if (state === 'SUSPENDED' && action === 'reinstate' && before === 'PENDING') return before;
  const next = TRANSITIONS[state][action];
  if (next === undefined) {
    throw new LatchkeyError(
      'STATE_PRECONDITION',
      `license ${licenseId} is ${state.toLowerCase()}; ${action} is not possible`,
      { hint: state === 'REVOKED' ? 'a revocation is final: create a new license' : 'activate it first' },
    );
  }
  return next;
}

/** Gives the state at a moment: the stored one, unless the license has not begun or is over. */
export function licenseStateAt(term: LicenseTerm, nowMs: number): LicenseState {
  if (term.state === 'REVOKED' || term.state === 'SUSPENDED') return term.state;
  if (term.startsAtMs !== null && nowMs < term.startsAtMs) return 'NOT_STARTED';
  const endsAtMs = graceEndsAtMs(term);
  if (endsAtMs !== null && nowMs >= endsAtMs) return 'EXPIRED';
  if (term.expiresAtMs !== null && nowMs >= term.expiresAtMs) return 'GRACE';
  return term.state;
}

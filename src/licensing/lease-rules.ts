/** How long a lease lives and when a node should ask for the next one. */
import { LEASE_RENEW_FRACTION, LEASE_RENEW_JITTER } from '#src/base/limits.ts';

export interface LeaseTimes {
  readonly issuedAtMs: number;
  readonly renewAtMs: number;
  readonly expiresAtMs: number;
}

export interface LeaseTerms {
  readonly nowMs: number;
  readonly leaseDurationMs: number;
  /** End of the license; null = open. A lease never outlives its license. */
  readonly licenseExpiresAtMs: number | null;
  /** Uniform in [0, 1): spreads renewals, so that nodes do not come all at once. */
  readonly random: number;
}

/** Gives the times of a new lease, milliseconds since the epoch. */
export function leaseTimes(terms: LeaseTerms): LeaseTimes {
  const { nowMs, leaseDurationMs, licenseExpiresAtMs, random } = terms;
  const end = nowMs + leaseDurationMs;
  const expiresAtMs = licenseExpiresAtMs === null ? end : Math.min(end, licenseExpiresAtMs);
  const jitter = 1 + LEASE_RENEW_JITTER * (2 * random - 1);
  const renewAtMs = nowMs + Math.floor((expiresAtMs - nowMs) * LEASE_RENEW_FRACTION * jitter);
  return { issuedAtMs: nowMs, renewAtMs, expiresAtMs };
}

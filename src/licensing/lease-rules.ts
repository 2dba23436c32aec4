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
  /** Until when the license allows this start; null = no end. A lease never outlives that. */
  readonly allowedUntilMs: number | null;
  /** Uniform in [0, 1): spreads renewals, so that nodes do not come all at once. */
  readonly random: number;
}

/** Gives the times of a new lease, milliseconds since the epoch. */
export function leaseTimes(terms: LeaseTerms): LeaseTimes {
  const { nowMs, leaseDurationMs, allowedUntilMs, random } = terms;
  const end = nowMs + leaseDurationMs;
  const expiresAtMs = allowedUntilMs === null ? end : Math.min(end, allowedUntilMs);
  const jitter = 1 + LEASE_RENEW_JITTER * (2 * random - 1);
  const renewAtMs = nowMs + Math.floor((expiresAtMs - nowMs) * LEASE_RENEW_FRACTION * jitter);
  return { issuedAtMs: nowMs, renewAtMs, expiresAtMs };
}

/**
 * Until when a node may use a lease while it reaches no key server and has heard of no refusal, in milliseconds since the
 * epoch; null = not beyond its end.
 * @param graceMs how long beyond
 * @param allowedUntilMs until when the license allows starts at all; null = no end
 */
export function connectivityGraceUntilMs(
  { expiresAtMs }: Pick<LeaseTimes, 'expiresAtMs'>,
  graceMs: number,
  allowedUntilMs: number | null,
): number | null {
  const untilMs = Math.min(expiresAtMs + graceMs, allowedUntilMs ?? Infinity);
  return untilMs > expiresAtMs ? untilMs : null;
}

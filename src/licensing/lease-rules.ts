/** How long a lease lives and when a node should ask for the next one. */
import { LEASE_RENEW_JITTER } from '#src/base/limits.ts';

export interface LeaseTimes {
  readonly issuedAtMs: number;
  readonly renewAtMs: number;
  readonly expiresAtMs: number;
}

export interface LeaseTerms {
  readonly nowMs: number;
  readonly leaseDurationMs: number;
  /** After how much of its life the node asks for the next one. */
  readonly renewAfterPercent: number;
  /** Until when the license allows this start; null = no end. A lease never outlives that. */
  readonly allowedUntilMs: number | null;
  /** Uniform in [0, 1): spreads renewals, so that nodes do not come all at once. */
  readonly random: number;
}

/** Gives the times of a new lease, milliseconds since the epoch. */
export function leaseTimes(terms: LeaseTerms): LeaseTimes {
  const { nowMs, leaseDurationMs, renewAfterPercent, allowedUntilMs, random } = terms;
  const end = nowMs + leaseDurationMs;
  const expiresAtMs = allowedUntilMs === null ? end : Math.min(end, allowedUntilMs);
  const part = renewAfterPercent / 100;
  // Of the rest where that is less: late renewals keep the time that the license leaves them to try again.
  const jitter = LEASE_RENEW_JITTER * Math.min(part, 1 - part) * (2 * random - 1);
  const renewAtMs = nowMs + Math.floor((expiresAtMs - nowMs) * (part + jitter));
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

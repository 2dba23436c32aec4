/** The term of a license: begun at its creation, its first node or its first start, and as long as its duration says. */
import { sql } from 'kysely';
import type { ExpirationBasis } from '#src/licensing/expiry.ts';
import type { LicenseTerms } from '#src/licensing/license-terms.ts';
import type { LicenseTable } from '../db/tables/license.ts';
import type { Writer } from '../db/store.ts';
import type { GrantableLicense } from './license-facts.ts';
import { nextRevision } from './revision.ts';

/** In the names of own terms: the end of a license that was set and does not follow from its duration. */
export const END_OF_TERM = 'expiresAtMs';

type TermColumns = Pick<LicenseTable, 'term_started_at_ms' | 'expires_at_ms'>;

/** A term that counts from an event begins no sooner than the license. */
export function termStartMs(eventMs: number, startsAtMs: number | null): number {
  return Math.max(eventMs, startsAtMs ?? 0);
}

/**
 * Gives when the term of a license began that may now count from something else; null = that has not happened yet. Of an
 * event that was not counted from nobody knows when it was, so then the begin stays.
 */
export function termStartNow(
  license: Pick<LicenseTable, 'created_at_ms' | 'term_started_at_ms' | 'state' | 'state_before_suspension'>,
  basis: ExpirationBasis,
  startsAtMs: number | null,
): number | null {
  if (basis === 'creation') return termStartMs(license.created_at_ms, startsAtMs);
  const isUnused = license.state === 'PENDING' || license.state_before_suspension === 'PENDING';
  return isUnused ? null : license.term_started_at_ms;
}

/** `termStartNow` as an expression, for all licenses of a policy at once; a test holds the two together. */
export const termStartColumn = sql<number | null>`case
  when expiration_basis = 'creation' and starts_at_ms > created_at_ms then starts_at_ms
  when expiration_basis = 'creation' then created_at_ms
  when state = 'PENDING' or state_before_suspension = 'PENDING' then null
  else term_started_at_ms end`;

/** Gives what to write when a term begins with this event; undefined when it does not. */
export function beginTerm(
  license: GrantableLicense,
  event: ExpirationBasis,
  nowMs: number,
): TermColumns | undefined {
  const { durationMs, expirationBasis, expiresAtMs, hasOwnEnd, startsAtMs, termStartedAtMs } = license;
  if (termStartedAtMs !== null || expirationBasis !== event || durationMs === null) return undefined;
  const startedAtMs = termStartMs(nowMs, startsAtMs ?? null);
  const endsAtMs = hasOwnEnd ? expiresAtMs : startedAtMs + durationMs;
  return { term_started_at_ms: startedAtMs, expires_at_ms: endsAtMs };
}

/** Gives the term of a license that is being made. */
export function termAtCreation(
  { durationMs, expirationBasis }: LicenseTerms,
  {
    startsAtMs,
    expiresAtMs,
  }: { readonly startsAtMs?: number | undefined; readonly expiresAtMs?: number | undefined },
  nowMs: number,
): TermColumns {
  const startedAtMs = expirationBasis === 'creation' ? termStartMs(nowMs, startsAtMs ?? null) : null;
  const endsAtMs = startedAtMs === null || durationMs === null ? null : startedAtMs + durationMs;
  return { term_started_at_ms: startedAtMs, expires_at_ms: expiresAtMs ?? endsAtMs };
}

/**
 * Begins the term of a license with its first start: a change like any other, with a new epoch.
 * @returns the license as it is then, and the revision; undefined when no term begins
 */
export async function beginTermAtLease(
  writer: Writer,
  organizationId: string,
  license: GrantableLicense,
  nowMs: number,
): Promise<{ license: GrantableLicense; revision: number } | undefined> {
  const begun = beginTerm(license, 'lease', nowMs);
  if (begun === undefined) return undefined;
  const revision = await nextRevision(writer, organizationId, nowMs);
  const epoch = license.epoch + 1;
  await writer
    .updateTable('license')
    .set({ ...begun, epoch, revision, updated_at_ms: nowMs })
    .where('id', '=', license.licenseId)
    .execute();
  const { term_started_at_ms: termStartedAtMs, expires_at_ms: expiresAtMs } = begun;
  return { license: { ...license, epoch, termStartedAtMs, expiresAtMs }, revision };
}

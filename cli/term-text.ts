/** The terms of a license as lines for people. */
import { formatDuration } from '#src/base/duration-text.ts';
import { DEFAULT_RENEW_AFTER_PERCENT } from '#src/base/limits.ts';
import type { LicenseTerms } from '#src/licensing/license-terms.ts';

/** What a policy says; a term that limits nothing is left out. */
export function termFields(terms: LicenseTerms): [string, string | undefined][] {
  const { durationMs, expirationBasis } = terms;
  return [
    ['nodes', String(terms.maxNodes)],
    ['installations', terms.maxInstallations === null ? undefined : String(terms.maxInstallations)],
    ['nodes at once', terms.maxConcurrent === null ? undefined : String(terms.maxConcurrent)],
    ['duration', durationMs === null ? undefined : durationText(durationMs, expirationBasis)],
    ...commonFields(terms),
  ];
}

/** Those that a license shows as its policy does. */
export function commonFields(terms: LicenseTerms): [string, string | undefined][] {
  const { overage, expiryGraceMs, expirationStrategy, entitlements, connectivityGraceMs } = terms;
  return [
    ['overage', overage === 'none' ? undefined : overage],
    ['grace', expiryGraceMs === 0 ? undefined : formatDuration(expiryGraceMs)],
    ['after that', expirationStrategy === 'revoke-access' ? undefined : expirationStrategy],
    ['versions', terms.versionConstraint ?? undefined],
    ['entitlements', entitlements.length === 0 ? undefined : entitlements.join(', ')],
    ['lease', formatDuration(terms.leaseDurationMs)],
    ['renewal', renewalText(terms.renewAfterPercent)],
    [
      'connectivity',
      connectivityGraceMs === 0 ? undefined : `grace of ${formatDuration(connectivityGraceMs)}`,
    ],
    ['offline', terms.offlineMaxMs === null ? undefined : offlineText(terms.offlineMaxMs)],
    ['on revoke', terms.onRevoke],
  ];
}

function renewalText(percent: number): string | undefined {
  return percent === DEFAULT_RENEW_AFTER_PERCENT ? undefined : `after ${percent}% of its life`;
}

function offlineText(offlineMaxMs: number): string {
  return offlineMaxMs === 0 ? 'no bundles' : `bundles up to ${formatDuration(offlineMaxMs)}`;
}

/** `30d after its first node` */
export function durationText(durationMs: number, basis: LicenseTerms['expirationBasis']): string {
  const event = { creation: 'its creation', activation: 'its first node', lease: 'its first start' };
  return `${formatDuration(durationMs)} after ${event[basis]}`;
}

/**
 * What a license covers beside its product: versions, dates of publication and features; and how strongly a node has
 * to be attested. Pure. A term that is absent limits nothing.
 */
import { Range, SemVer, satisfies, valid } from 'semver';
import type { DeniedCode } from '#src/base/errors.ts';

/** From weak to strong: none, a key in a TPM, a trusted execution environment. */
export const ATTESTATION_TIERS = ['none', 'tpm', 'tee'] as const;
export type AttestationTier = (typeof ATTESTATION_TIERS)[number];

export interface CoverageTerms {
  /** Versions that are covered, as an npm semver range. */
  readonly versionConstraint?: string | null;
  /** Releases published after it are not covered; those of before stay so for as long as the license lasts. */
  readonly maintenanceUntilMs?: number | null;
  /** Codes of the features that were sold. */
  readonly entitlements?: readonly string[];
  readonly attestationTier?: AttestationTier;
}

export interface ReleaseTerms {
  readonly version?: string;
  readonly publishedAtMs?: number;
  /** Codes that a license must hold, all of them. */
  readonly requiredEntitlements?: readonly string[];
}

export interface CoverageGap {
  readonly code: Extract<DeniedCode, 'DENIED_VERSION_NOT_COVERED' | 'DENIED_ENTITLEMENT_MISSING'>;
  /** Continues a sentence that begins with the license. */
  readonly reason: string;
}

/** Gives the first thing about a release that a license does not cover; null = it is covered. */
export function coverageGap(terms: CoverageTerms, release: ReleaseTerms): CoverageGap | null {
  const { versionConstraint = null, maintenanceUntilMs = null, entitlements = [] } = terms;
  const { version = '', publishedAtMs = 0, requiredEntitlements = [] } = release;
  if (versionConstraint !== null && !isVersionCovered(version, versionConstraint)) {
    return {
      code: 'DENIED_VERSION_NOT_COVERED',
      reason: `covers versions ${versionConstraint}, not ${JSON.stringify(version)}`,
    };
  }
  if (maintenanceUntilMs !== null && publishedAtMs > maintenanceUntilMs) {
    return {
      code: 'DENIED_VERSION_NOT_COVERED',
      reason:
        `covers releases published until ${new Date(maintenanceUntilMs).toISOString()}, ` +
        `version ${JSON.stringify(version)} came later`,
    };
  }
  const missing = requiredEntitlements.find((code) => !entitlements.includes(code));
  if (missing === undefined) return null;
  return { code: 'DENIED_ENTITLEMENT_MISSING', reason: `lacks the entitlement ${missing}` };
}

/**
 * True when a version lies in a range. One that is not semver lies in no range but `*`, and neither does any in a range
 * that cannot be read: what is unclear is not covered. A pre-release counts as the version that it leads to.
 */
export function isVersionCovered(version: string, range: string): boolean {
  if (range.trim() === '*') return true;
  const parsed = valid(version);
  if (parsed === null || !isVersionRange(range)) return false;
  const { major, minor, patch } = new SemVer(parsed);
  return satisfies(`${major}.${minor}.${patch}`, range) || satisfies(parsed, range);
}

/** True when a range can be read. */
export function isVersionRange(range: string): boolean {
  try {
    new Range(range);
    return true;
  } catch {
    return false;
  }
}

/** True when a node is attested as strongly as a license asks. */
export function isAttested(node: AttestationTier = 'none', required: AttestationTier = 'none'): boolean {
  return ATTESTATION_TIERS.indexOf(node) >= ATTESTATION_TIERS.indexOf(required);
}

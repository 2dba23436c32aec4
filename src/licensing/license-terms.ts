/** The terms of a license: what it allows, how much of it, and how long. Pure. */
import {
  DEFAULT_LEASE_DURATION_MS,
  DEFAULT_MAX_NODES,
  DEFAULT_RENEW_AFTER_PERCENT,
} from '#src/base/limits.ts';
import type { ExpirationBasis, ExpirationStrategy } from './expiry.ts';
import type { OnRevoke } from './license-state.ts';
import type { Overage } from './seats.ts';

export interface LicenseTerms {
  readonly maxNodes: number;
  /** Null = not limited. */
  readonly maxInstallations: number | null;
  /** Null = not limited. */
  readonly maxConcurrent: number | null;
  readonly overage: Overage;
  readonly leaseDurationMs: number;
  /** After how much of a lease's life the node asks for the next one. */
  readonly renewAfterPercent: number;
  readonly onRevoke: OnRevoke;
  /** npm semver range; null = all versions. */
  readonly versionConstraint: string | null;
  /** Codes of the features that were sold. */
  readonly entitlements: readonly string[];
  /** How long the license lasts; null = no end, unless one is given. */
  readonly durationMs: number | null;
  readonly expirationBasis: ExpirationBasis;
  readonly expirationStrategy: ExpirationStrategy;
  readonly expiryGraceMs: number;
  /** How long leases count beyond their end on a node that reaches no key server. */
  readonly connectivityGraceMs: number;
  /** The longest life of its offline bundles; 0 = there are none, null = as long as any may live. */
  readonly offlineMaxMs: number | null;
}

/** Terms that somebody has set; the others are undefined. */
export type TermOverrides = { readonly [Name in keyof LicenseTerms]?: LicenseTerms[Name] | undefined };

/** Those of a license that says nothing else. */
export const DEFAULT_TERMS: LicenseTerms = {
  maxNodes: DEFAULT_MAX_NODES,
  maxInstallations: null,
  maxConcurrent: null,
  overage: 'none',
  leaseDurationMs: DEFAULT_LEASE_DURATION_MS,
  renewAfterPercent: DEFAULT_RENEW_AFTER_PERCENT,
  onRevoke: 'deny-start',
  versionConstraint: null,
  entitlements: [],
  durationMs: null,
  expirationBasis: 'creation',
  expirationStrategy: 'revoke-access',
  expiryGraceMs: 0,
  connectivityGraceMs: 0,
  offlineMaxMs: null,
};

/** Gives all terms: those that are set, and the rest from a template. */
export function mergeTerms(template: LicenseTerms, overrides: TermOverrides): LicenseTerms {
  const set = Object.entries(overrides).filter(([, value]) => value !== undefined);
  return { ...template, ...(Object.fromEntries(set) as Partial<LicenseTerms>) };
}

export type TermName = keyof LicenseTerms;

export const TERM_NAMES = Object.keys(DEFAULT_TERMS) as readonly TermName[];

/** A change of terms: some get a value, some go back to the template. */
export interface TermChange {
  readonly set: TermOverrides;
  readonly inherited: readonly TermName[];
}

/**
 * Changes terms of which some are the owner's own and the others its template's.
 * @param own the names of its own terms, as they are before
 */
export function changeTerms(
  before: LicenseTerms,
  own: readonly TermName[],
  template: LicenseTerms,
  { set, inherited }: TermChange,
): { readonly terms: LicenseTerms; readonly own: readonly TermName[] } {
  const ownNow = TERM_NAMES.filter(
    (name) => set[name] !== undefined || (own.includes(name) && !inherited.includes(name)),
  );
  const kept = Object.fromEntries(ownNow.map((name) => [name, before[name]])) as TermOverrides;
  return { terms: mergeTerms(mergeTerms(template, kept), set), own: ownNow };
}

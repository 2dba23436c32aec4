/** The terms of a license as columns, and back. */
import type { LicenseTerms } from '#src/licensing/license-terms.ts';
import type { TermColumns } from '../db/tables/term-columns.ts';
import { fromCodeColumn, toCodeColumn } from './code-list.ts';

export const TERM_COLUMNS = {
  maxNodes: 'max_nodes',
  maxInstallations: 'max_installations',
  maxConcurrent: 'max_concurrent',
  overage: 'overage',
  leaseDurationMs: 'lease_duration_ms',
  renewAfterPercent: 'renew_after_percent',
  onRevoke: 'on_revoke',
  versionConstraint: 'version_constraint',
  entitlements: 'entitlements',
  durationMs: 'duration_ms',
  expirationBasis: 'expiration_basis',
  expirationStrategy: 'expiration_strategy',
  expiryGraceMs: 'expiry_grace_ms',
  connectivityGraceMs: 'connectivity_grace_ms',
  offlineMaxMs: 'offline_max_ms',
} as const satisfies Record<keyof LicenseTerms, keyof TermColumns>;

export function toTermColumns(terms: LicenseTerms): TermColumns {
  return {
    max_nodes: terms.maxNodes,
    max_installations: terms.maxInstallations,
    max_concurrent: terms.maxConcurrent,
    overage: terms.overage,
    lease_duration_ms: terms.leaseDurationMs,
    renew_after_percent: terms.renewAfterPercent,
    on_revoke: terms.onRevoke,
    version_constraint: terms.versionConstraint,
    entitlements: toCodeColumn(terms.entitlements),
    duration_ms: terms.durationMs,
    expiration_basis: terms.expirationBasis,
    expiration_strategy: terms.expirationStrategy,
    expiry_grace_ms: terms.expiryGraceMs,
    connectivity_grace_ms: terms.connectivityGraceMs,
    offline_max_ms: terms.offlineMaxMs,
  };
}

export function fromTermColumns(row: TermColumns): LicenseTerms {
  return {
    maxNodes: row.max_nodes,
    maxInstallations: row.max_installations,
    maxConcurrent: row.max_concurrent,
    overage: row.overage,
    leaseDurationMs: row.lease_duration_ms,
    renewAfterPercent: row.renew_after_percent,
    onRevoke: row.on_revoke,
    versionConstraint: row.version_constraint,
    entitlements: fromCodeColumn(row.entitlements),
    durationMs: row.duration_ms,
    expirationBasis: row.expiration_basis,
    expirationStrategy: row.expiration_strategy,
    expiryGraceMs: row.expiry_grace_ms,
    connectivityGraceMs: row.connectivity_grace_ms,
    offlineMaxMs: row.offline_max_ms,
  };
}

/** The terms of licenses and of their policies in the admin API. */
import * as z from 'zod';
import {
  MAX_CONNECTIVITY_GRACE_MS,
  MAX_EXPIRY_GRACE_MS,
  MAX_LEASE_DURATION_MS,
  MAX_LICENSE_DURATION_MS,
  MAX_OFFLINE_MS,
  MAX_RENEW_AFTER_PERCENT,
  MAX_SEATS_PER_LICENSE,
  MIN_LEASE_DURATION_MS,
  MIN_LICENSE_DURATION_MS,
  MIN_OFFLINE_MS,
  MIN_RENEW_AFTER_PERCENT,
} from '#src/base/limits.ts';
import { isVersionRange } from '#src/licensing/coverage.ts';
import { EXPIRATION_BASES, EXPIRATION_STRATEGIES } from '#src/licensing/expiry.ts';
import { ON_REVOKE } from '#src/licensing/license-state.ts';
import type { TermChange, TermOverrides } from '#src/licensing/license-terms.ts';
import { OVERAGES } from '#src/licensing/seats.ts';
import { entitlementCodes } from './field.ts';

/** Says that something has no limit, where null means that it is left open. */
export const UNLIMITED = 'unlimited';

const seats = z.int().min(1).max(MAX_SEATS_PER_LICENSE);

/** Each by itself; which may be left out depends on the request. */
export const termInputs = {
  maxNodes: seats,
  /** Clusters or sites. */
  maxInstallations: z.union([seats, z.literal(UNLIMITED)]),
  /** Nodes that hold a lease at once. */
  maxConcurrent: z.union([seats, z.literal(UNLIMITED)]),
  /** By how much each of these may be overdrawn. */
  overage: z.enum(OVERAGES),
  leaseDurationMs: z.int().min(MIN_LEASE_DURATION_MS).max(MAX_LEASE_DURATION_MS),
  /** After how much of a lease's life the node asks for the next one. */
  renewAfterPercent: z.int().min(MIN_RENEW_AFTER_PERCENT).max(MAX_RENEW_AFTER_PERCENT),
  onRevoke: z.enum(ON_REVOKE),
  /** Versions that are covered; `*` = all. */
  versionConstraint: z
    .string()
    .trim()
    .min(1)
    .max(200)
    .refine(isVersionRange, 'is not a semver range; give one like ^1.2 or >=1.0 <3.0'),
  /** Codes of the features that are sold with it. */
  entitlements: entitlementCodes,
  /** How long the license lasts. */
  durationMs: z.union([
    z.int().min(MIN_LICENSE_DURATION_MS).max(MAX_LICENSE_DURATION_MS),
    z.literal(UNLIMITED),
  ]),
  /** What that counts from: the making of the license, its first node, or the first start under it. */
  expirationBasis: z.enum(EXPIRATION_BASES),
  /** What an ended license still allows. */
  expirationStrategy: z.enum(EXPIRATION_STRATEGIES),
  /** How long after its end everything goes on as before. */
  expiryGraceMs: z.int().nonnegative().max(MAX_EXPIRY_GRACE_MS),
  /** How long leases count beyond their end on a node that reaches no key server. */
  connectivityGraceMs: z.int().nonnegative().max(MAX_CONNECTIVITY_GRACE_MS),
  /** How long its offline bundles may live; 0 = there are none. */
  offlineMaxMs: z.union([
    z.literal(0),
    z.int().min(MIN_OFFLINE_MS).max(MAX_OFFLINE_MS),
    z.literal(UNLIMITED),
  ]),
};

/** In answers; null = not limited. */
export const termAnswers = {
  maxNodes: z.int(),
  maxInstallations: z.int().nullable(),
  maxConcurrent: z.int().nullable(),
  overage: z.enum(OVERAGES),
  leaseDurationMs: z.int(),
  renewAfterPercent: z.int(),
  onRevoke: z.enum(ON_REVOKE),
  versionConstraint: z.string().nullable(),
  entitlements: z.array(z.string()),
  durationMs: z.int().nullable(),
  expirationBasis: z.enum(EXPIRATION_BASES),
  expirationStrategy: z.enum(EXPIRATION_STRATEGIES),
  expiryGraceMs: z.int(),
  connectivityGraceMs: z.int(),
  offlineMaxMs: z.int().nullable(),
};

/** Terms of a request; null where it has no limit. */
type TermRequest = {
  readonly [Name in keyof typeof termInputs]?: z.output<(typeof termInputs)[Name]> | undefined;
};

/** Gives the terms that a request sets. */
export function toTermOverrides(request: TermRequest): TermOverrides {
  const { maxInstallations, maxConcurrent, durationMs, offlineMaxMs } = request;
  return {
    maxNodes: request.maxNodes,
    maxInstallations: maxInstallations === UNLIMITED ? null : maxInstallations,
    maxConcurrent: maxConcurrent === UNLIMITED ? null : maxConcurrent,
    overage: request.overage,
    leaseDurationMs: request.leaseDurationMs,
    renewAfterPercent: request.renewAfterPercent,
    onRevoke: request.onRevoke,
    versionConstraint: request.versionConstraint,
    entitlements: request.entitlements,
    durationMs: durationMs === UNLIMITED ? null : durationMs,
    expirationBasis: request.expirationBasis,
    expirationStrategy: request.expirationStrategy,
    expiryGraceMs: request.expiryGraceMs,
    connectivityGraceMs: request.connectivityGraceMs,
    offlineMaxMs: offlineMaxMs === UNLIMITED ? null : offlineMaxMs,
  };
}

/** For requests that change some: null = as the policy, or as where nothing is said. */
export const termChanges = {
  maxNodes: termInputs.maxNodes.nullable().optional(),
  maxInstallations: termInputs.maxInstallations.nullable().optional(),
  maxConcurrent: termInputs.maxConcurrent.nullable().optional(),
  overage: termInputs.overage.nullable().optional(),
  leaseDurationMs: termInputs.leaseDurationMs.nullable().optional(),
  renewAfterPercent: termInputs.renewAfterPercent.nullable().optional(),
  onRevoke: termInputs.onRevoke.nullable().optional(),
  versionConstraint: termInputs.versionConstraint.nullable().optional(),
  entitlements: termInputs.entitlements.nullable().optional(),
  durationMs: termInputs.durationMs.nullable().optional(),
  expirationBasis: termInputs.expirationBasis.nullable().optional(),
  expirationStrategy: termInputs.expirationStrategy.nullable().optional(),
  expiryGraceMs: termInputs.expiryGraceMs.nullable().optional(),
  connectivityGraceMs: termInputs.connectivityGraceMs.nullable().optional(),
  offlineMaxMs: termInputs.offlineMaxMs.nullable().optional(),
};

type TermChangeRequest = {
  readonly [Name in keyof typeof termChanges]?: z.output<(typeof termChanges)[Name]>;
};

/** Gives the change of terms that a request asks for. */
export function toTermChange(request: TermChangeRequest): TermChange {
  const names = Object.keys(termChanges) as (keyof typeof termChanges)[];
  const set = Object.fromEntries(names.map((name) => [name, request[name] ?? undefined]));
  return {
    set: toTermOverrides(set),
    inherited: names.filter((name) => request[name] === null),
  };
}

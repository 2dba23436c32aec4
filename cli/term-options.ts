/** The terms of a license as options. */
import { type Command, Option } from 'commander';
import {
  EXPIRATION_BASES,
  EXPIRATION_STRATEGIES,
  type ExpirationBasis,
  type ExpirationStrategy,
} from '#src/licensing/expiry.ts';
import { ON_REVOKE, type OnRevoke } from '#src/licensing/license-state.ts';
import { OVERAGES, type Overage } from '#src/licensing/seats.ts';
import type { UNLIMITED } from '#src/wire/admin/license-terms.ts';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { parseEntitlements } from './name-arguments.ts';
import {
  parseGrace,
  parseOfflineMax,
  parseRenewAfter,
  parseSeatLimit,
  parseTermDuration,
  parseVersionRange,
} from './term-arguments.ts';
import { parseConnectivityGrace, parseLeaseDuration, parseSeatCount } from './time-arguments.ts';

export interface TermOptions {
  readonly maxNodes?: number;
  readonly maxInstallations?: number | typeof UNLIMITED;
  readonly maxConcurrent?: number | typeof UNLIMITED;
  readonly overage?: Overage;
  readonly lease?: number;
  readonly renewAfter?: number;
  readonly onRevoke?: OnRevoke;
  readonly versions?: string;
  readonly entitlement?: readonly string[];
  readonly duration?: number | typeof UNLIMITED;
  readonly durationFrom?: ExpirationBasis;
  readonly grace?: number;
  readonly onExpiry?: ExpirationStrategy;
  readonly connectivityGrace?: number;
  readonly offlineMax?: number | typeof UNLIMITED;
}

export type Terms = Pick<
  LicenseRequest,
  | 'maxNodes'
  | 'maxInstallations'
  | 'maxConcurrent'
  | 'overage'
  | 'leaseDurationMs'
  | 'renewAfterPercent'
  | 'onRevoke'
  | 'versionConstraint'
  | 'entitlements'
  | 'durationMs'
  | 'expirationBasis'
  | 'expirationStrategy'
  | 'expiryGraceMs'
  | 'connectivityGraceMs'
  | 'offlineMaxMs'
>;

export function withTermOptions(command: Command): Command {
  return command
    .option('--max-nodes <count>', 'nodes that may be activated with it (default: 3)', parseSeatCount)
    .option('--max-installations <count>', 'clusters they may be in (default: unlimited)', parseSeatLimit)
    .option(
      '--max-concurrent <count>',
      'nodes that may hold a lease at once (default: unlimited)',
      parseSeatLimit,
    )
    .addOption(
      new Option('--overage <how-much>', 'how far these may be overdrawn (default: none)').choices(OVERAGES),
    )
    .option(
      '--lease <span>',
      'how long a node may start without asking again (default: 24h)',
      parseLeaseDuration,
    )
    .option(
      '--renew-after <percent>',
      "after how much of a lease's life the node asks for the next one, from 10% to 90% (default: 33%)",
      parseRenewAfter,
    )
    .addOption(new Option('--on-revoke <what>', 'what happens to running containers').choices(ON_REVOKE))
    .option(
      '--versions <range>',
      'versions that it covers, as an npm semver range (default: all)',
      parseVersionRange,
    )
    .option('--entitlement <code>', 'feature that is sold with it; repeatable', parseEntitlements)
    .option('--duration <span>', 'how long it lasts, where no end is given: 365d', parseTermDuration)
    .addOption(
      new Option('--duration-from <event>', 'what that counts from (default: creation)').choices(
        EXPIRATION_BASES,
      ),
    )
    .option('--grace <span>', 'how long everything goes on after its end: 14d', parseGrace)
    .addOption(
      new Option('--on-expiry <what>', 'what it allows after that (default: revoke-access)').choices(
        EXPIRATION_STRATEGIES,
      ),
    )
    .option(
      '--connectivity-grace <span>',
      'how much longer leases count where the key server cannot be reached, up to 30d (default: not at all)',
      parseConnectivityGrace,
    )
    .option(
      '--offline-max <span>',
      'longest life of its offline bundles, `0s` for none at all (default: 365d)',
      parseOfflineMax,
    );
}

/** What the options say; a term without an option is undefined. */
export function termsOf(options: TermOptions): Terms {
  return {
    maxNodes: options.maxNodes,
    maxInstallations: options.maxInstallations,
    maxConcurrent: options.maxConcurrent,
    overage: options.overage,
    leaseDurationMs: options.lease,
    renewAfterPercent: options.renewAfter,
    onRevoke: options.onRevoke,
    versionConstraint: options.versions,
    entitlements: options.entitlement && [...options.entitlement],
    durationMs: options.duration,
    expirationBasis: options.durationFrom,
    expirationStrategy: options.onExpiry,
    expiryGraceMs: options.grace,
    connectivityGraceMs: options.connectivityGrace,
    offlineMaxMs: options.offlineMax,
  };
}

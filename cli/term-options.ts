/** The terms of a license as options. */
import { type Command, Option } from 'commander';
import { ON_REVOKE, type OnRevoke } from '#src/licensing/license-state.ts';
import { OVERAGES, type Overage } from '#src/licensing/seats.ts';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { parseEntitlements } from './name-arguments.ts';
import { parseLeaseDuration, parseSeatCount } from './time-arguments.ts';

export interface TermOptions {
  readonly maxNodes?: number;
  readonly maxInstallations?: number;
  readonly maxConcurrent?: number;
  readonly overage?: Overage;
  readonly lease?: number;
  readonly onRevoke?: OnRevoke;
  readonly versions?: string;
  readonly entitlement?: readonly string[];
}

type Terms = Pick<
  LicenseRequest,
  | 'maxNodes'
  | 'maxInstallations'
  | 'maxConcurrent'
  | 'overage'
  | 'leaseDurationMs'
  | 'onRevoke'
  | 'versionConstraint'
  | 'entitlements'
>;

export function withTermOptions(command: Command): Command {
  return command
    .option('--max-nodes <count>', 'nodes that may be activated with it (default: 3)', parseSeatCount)
    .option(
      '--max-installations <count>',
      'clusters that they may be in (default: any number)',
      parseSeatCount,
    )
    .option('--max-concurrent <count>', 'nodes that may hold a lease at once (default: all)', parseSeatCount)
    .addOption(
      new Option('--overage <how-much>', 'how far these may be overdrawn (default: none)').choices(OVERAGES),
    )
    .option(
      '--lease <span>',
      'how long a node may start without asking again (default: 24h)',
      parseLeaseDuration,
    )
    .addOption(new Option('--on-revoke <what>', 'what happens to running containers').choices(ON_REVOKE))
    .option('--versions <range>', 'versions that it covers, as an npm semver range (default: all)')
    .option('--entitlement <code>', 'feature that is sold with it; repeatable', parseEntitlements);
}

/** What the options say; a term without an option is undefined. */
export function termsOf(options: TermOptions): Terms {
  return {
    maxNodes: options.maxNodes,
    maxInstallations: options.maxInstallations,
    maxConcurrent: options.maxConcurrent,
    overage: options.overage,
    leaseDurationMs: options.lease,
    onRevoke: options.onRevoke,
    versionConstraint: options.versions,
    entitlements: options.entitlement && [...options.entitlement],
  };
}

/** `--inherit`: gives terms back to the policy, by the names of their options. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { LicenseTerms } from '#src/licensing/license-terms.ts';

const FIELDS = {
  'max-nodes': 'maxNodes',
  'max-installations': 'maxInstallations',
  'max-concurrent': 'maxConcurrent',
  overage: 'overage',
  lease: 'leaseDurationMs',
  'renew-after': 'renewAfterPercent',
  'on-revoke': 'onRevoke',
  versions: 'versionConstraint',
  entitlement: 'entitlements',
  duration: 'durationMs',
  'duration-from': 'expirationBasis',
  grace: 'expiryGraceMs',
  'on-expiry': 'expirationStrategy',
  'connectivity-grace': 'connectivityGraceMs',
  'offline-max': 'offlineMaxMs',
} as const satisfies Record<string, keyof LicenseTerms>;

export interface InheritOptions {
  readonly inherit?: readonly (keyof typeof FIELDS)[];
}

/** @param source whose terms they take over then */
export function withInheritOption(command: Command, source: string): Command {
  const option = new Option('--inherit <option>', `take this term from ${source} again; repeatable`);
  return command.addOption(option.argParser(oneMore));
}

/** The terms that are given back, as a request says it. */
export function inheritedTerms({ inherit = [] }: InheritOptions): { [Name in keyof LicenseTerms]?: null } {
  return Object.fromEntries(inherit.map((option) => [FIELDS[option], null]));
}

function oneMore(text: string, before: readonly string[] = []): readonly string[] {
  const name = text.replace(/^--/, '');
  if (Object.hasOwn(FIELDS, name)) return [...before, name];
  throw new InvalidArgumentError(`Give the name of an option: ${Object.keys(FIELDS).join(', ')}.`);
}

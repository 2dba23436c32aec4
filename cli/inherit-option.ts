/** `--inherit`: gives terms back to the policy, by the names of their options. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { LicenseTerms } from '#src/licensing/license-terms.ts';
import { type TermOptions, type Terms, termsOf } from './term-options.ts';

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

/**
 * The terms that are set and those that are given back, as a request says it.
 * @throws LatchkeyError USAGE_INVALID for one that is to be both
 */
export function changedTerms(options: TermOptions & InheritOptions): {
  [Name in keyof Terms]: Terms[Name] | null;
} {
  const { inherit = [] } = options;
  const set = termsOf(options);
  const both = inherit.find((option) => set[FIELDS[option]] !== undefined);
  if (both !== undefined)
    throw new LatchkeyError('USAGE_INVALID', `--${both} sets a term that --inherit ${both} gives back`, {
      hint: 'give one of the two',
    });
  return { ...set, ...Object.fromEntries(inherit.map((option) => [FIELDS[option], null])) };
}

function oneMore(text: string, before: readonly string[] = []): readonly string[] {
  const name = text.replace(/^--/, '');
  if (Object.hasOwn(FIELDS, name)) return [...before, name];
  throw new InvalidArgumentError(`Give the name of an option: ${Object.keys(FIELDS).join(', ')}.`);
}

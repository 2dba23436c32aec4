/** `--require-entitlement`: features that a license must hold to run what is released. */
import { type Command, InvalidArgumentError } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseEntitlements } from './name-arguments.ts';

export interface EntitlementOptions {
  /** False = none, whatever the image required that it is made from. */
  readonly requireEntitlement?: readonly string[] | false;
}

const HELP = 'only licenses with this entitlement may run it; repeatable';

/** Declares `--require-entitlement`. */
export function withEntitlementOption(command: Command): Command {
  return command.option('--require-entitlement <code>', HELP, parseRequired);
}

/**
 * Declares it with `--no-require-entitlement`, where a release is made from an earlier one.
 * @param earlier as the command calls that one
 */
export function withCarriedEntitlements(command: Command, earlier: string): Command {
  return command
    .option('--require-entitlement <code>', `${HELP} (default: those of ${earlier})`, parseRequired)
    .option('--no-require-entitlement', 'all licenses of the product may run it');
}

function parseRequired(text: string, before: EntitlementOptions['requireEntitlement']): readonly string[] {
  if (before === false) throw new InvalidArgumentError('It is given and taken away at once.');
  return parseEntitlements(text, before);
}

/**
 * Without a product nobody would ask for a license, let alone for its entitlements.
 * @throws LatchkeyError USAGE_INVALID
 */
export function requireProductFor(options: EntitlementOptions & { readonly product?: string }): void {
  if (options.product !== undefined || options.requireEntitlement === undefined) return;
  throw new LatchkeyError('USAGE_INVALID', 'entitlements are a matter of licenses, and there is no product', {
    hint: 'give --product CODE too, or leave out --require-entitlement',
  });
}

/** Tells what was carried over, so that nobody wonders whom the new release refuses. */
export function carriedNotes(
  { requireEntitlement }: EntitlementOptions,
  earlier: string,
  required: readonly string[],
): string[] {
  if (requireEntitlement !== undefined || required.length === 0) return [];
  return [`only licenses with ${required.join(', ')} may run it, as is so with ${earlier}`];
}

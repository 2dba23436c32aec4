/** `--require-entitlement`: features that a license must hold to run what is released. */
import { LatchkeyError } from '#src/base/errors.ts';

export const REQUIRE_ENTITLEMENT = '--require-entitlement <code>';
export const REQUIRE_ENTITLEMENT_HELP = 'only licenses with this entitlement may run it; repeatable';

/**
 * Without a product nobody would ask for a license, let alone for its entitlements.
 * @throws LatchkeyError USAGE_INVALID
 */
export function requireProductFor(options: {
  readonly product?: string;
  readonly requireEntitlement?: readonly string[];
}): void {
  if (options.product !== undefined || options.requireEntitlement === undefined) return;
  throw new LatchkeyError('USAGE_INVALID', 'entitlements are a matter of licenses, and there is no product', {
    hint: 'give --product CODE too, or leave out --require-entitlement',
  });
}

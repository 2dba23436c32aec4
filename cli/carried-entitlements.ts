/** What a release that is made from an earlier one requires of licenses. */
import type { ImageGraph } from '#src/image/image-graph.ts';
import { hasLicensedElements } from '#src/image/recipients.ts';
import type { RequiredEntitlements } from './admin-registrar.ts';
import type { EntitlementOptions } from './required-entitlements.ts';

/**
 * What a registration says.
 * @param source what the new image is made from
 */
export function requiredBy(
  { requireEntitlement }: EntitlementOptions,
  source: ImageGraph | undefined,
): RequiredEntitlements {
  if (requireEntitlement === undefined) {
    const isReleased = source !== undefined && hasLicensedElements(source);
    return { derivedFrom: isReleased ? source.root.descriptor.digest : undefined };
  }
  return { entitlementCodes: requireEntitlement === false ? [] : requireEntitlement };
}

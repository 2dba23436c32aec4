/** What a new release requires of licenses: what its registration says, or what the image required that it was made from. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { ReleaseInput } from '#src/wire/admin/release.ts';
import type { Reader } from '../db/store.ts';
import { fromCodeColumn } from './code-list.ts';

/**
 * Gives the codes that a release requires. Entitlements are sold with a product, so nothing is carried over from an image of
 * another one; and a registry that shows another image than the released one takes no requirement away.
 * @throws LatchkeyError STATE_NOT_FOUND when nothing is said and the image that it was made from is no release of the product
 */
export async function requiredEntitlements(
  reader: Reader,
  organizationId: string,
  productId: string,
  { entitlementCodes, derivedFrom, productCode }: ReleaseInput,
): Promise<string[]> {
  if (entitlementCodes !== undefined) return entitlementCodes;
  if (derivedFrom === undefined) return [];
  const before = await reader
    .selectFrom('release_image')
    .innerJoin('release', 'release.id', 'release_image.release_id')
    .select('release.entitlement_codes')
    .where('release_image.organization_id', '=', organizationId)
    .where('release_image.image_digest', '=', derivedFrom)
    .where('release.product_id', '=', productId)
    .executeTakeFirst();
  if (before !== undefined) return fromCodeColumn(before.entitlement_codes);
  throw new LatchkeyError(
    'STATE_NOT_FOUND',
    `image ${derivedFrom} is in no release of ${productCode}, so nobody knows which entitlements it requires`,
    { hint: 'say it with --require-entitlement CODE, or --no-require-entitlement for none' },
  );
}

/** One trial for each customer and product, however it ended. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Writer } from '../db/store.ts';

/**
 * Refuses a trial where there was one; nothing of a license is ever deleted, so that is known for good.
 * @param exceptLicenseId the license that is to become one
 * @throws LatchkeyError STATE_CONFLICT
 */
export async function refuseSecondTrial(
  writer: Writer,
  { customerId, productId }: { readonly customerId: string; readonly productId: string },
  exceptLicenseId = '',
): Promise<void> {
  const earlier = await writer
    .selectFrom('license')
    .select('id')
    .where('customer_id', '=', customerId)
    .where('product_id', '=', productId)
    .where('is_trial', '=', 1)
    .where('id', '!=', exceptLicenseId)
    .executeTakeFirst();
  if (earlier === undefined) return;
  throw new LatchkeyError(
    'STATE_CONFLICT',
    `this customer had its trial of the product: license ${earlier.id}`,
    { hint: 'sell a license under another policy, or prolong that one with `latchkey license renew`' },
  );
}

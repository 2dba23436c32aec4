/** Hands image keys to the key server over its admin API. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { ImageKeyRegistrar } from '#src/image/registrar.ts';
import type { AdminClient } from './admin-client.ts';

/**
 * A registrar for releases of one product.
 * @param entitlementCodes features that a license must hold to run them
 */
export function createAdminRegistrar(
  client: AdminClient,
  productCode: string,
  entitlementCodes: readonly string[] = [],
): ImageKeyRegistrar {
  return {
    productCode,
    prepare: async () => {
      const [organization, product] = await Promise.all([client.organization(), client.product(productCode)]);
      return {
        organizationId: organization.id,
        contact: product.contact ?? organization.contact,
        // jose refuses what is not a usable key.
        importPublicKeyJwk: organization.importPublicKeyJwk,
      };
    },
    register: async (registration) => {
      const { statement } = await client.registerRelease({
        ...registration,
        imageDigests: [...registration.imageDigests],
        entitlementCodes: [...entitlementCodes],
      });
      if (statement !== null) return statement;
      throw new LatchkeyError('INPUT_MALFORMED', 'the key server signed no statement of this release', {
        hint: 'use the same version of Latchkey on both sides',
      });
    },
  };
}

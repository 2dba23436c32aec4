/** Hands image keys to the key server over its admin API. */
import type { ImageKeyRegistrar } from '#src/image/registrar.ts';
import type { AdminClient } from './admin-client.ts';

/** A registrar for releases of one product. */
export function createAdminRegistrar(client: AdminClient, productCode: string): ImageKeyRegistrar {
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
      await client.registerRelease({ ...registration, imageDigests: [...registration.imageDigests] });
    },
  };
}

/** Hands image keys to the key server over its admin API. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { ImageKeyRegistrar } from '#src/image/registrar.ts';
import type { AdminClient } from './admin-client.ts';

/** Features that a license must hold to run a release. */
export interface RequiredEntitlements {
  /** Undefined = those of the image that it was made from. */
  readonly entitlementCodes?: readonly string[] | undefined;
  /** The digest of that image; undefined = of none. */
  readonly derivedFrom?: string | undefined;
}

export interface AdminRegistrar extends ImageKeyRegistrar {
  /** What the key server requires of licenses, as it has said; empty before a registration. */
  readonly entitlementCodes: readonly string[];
}

/** A registrar for releases of one product. */
export function createAdminRegistrar(
  client: AdminClient,
  productCode: string,
  { entitlementCodes, derivedFrom }: RequiredEntitlements = {},
): AdminRegistrar {
  let required: readonly string[] = [];
  return {
    productCode,
    get entitlementCodes() {
      return required;
    },
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
      const registered = await client.registerRelease({
        ...registration,
        imageDigests: [...registration.imageDigests],
        entitlementCodes: entitlementCodes && [...entitlementCodes],
        derivedFrom,
      });
      required = registered.entitlementCodes;
      if (registered.statement !== null) return registered.statement;
      throw new LatchkeyError('INPUT_MALFORMED', 'the key server signed no statement of this release', {
        hint: 'use the same version of Latchkey on both sides',
      });
    },
  };
}

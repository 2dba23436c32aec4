/** The organization and its wrapped keys. */

export interface OrganizationTable {
  readonly id: string;
  name: string;
  contact: string;
  /** Counts every change; what nodes and clients compare. */
  revision: number;
  readonly created_at_ms: number;
  updated_at_ms: number;
  /** Organization key under the root key; everything below is under the organization key. */
  wrapped_organization_key: Uint8Array;
  wrapped_lookup_key: Uint8Array;
  import_public_jwk: string;
  wrapped_import_key: Uint8Array;
  lease_public_jwk: string;
  wrapped_lease_key: Uint8Array;
  authority_certificate: Uint8Array;
  wrapped_authority_key: Uint8Array;
  /** Null in a database of before it was introduced, until the next start. */
  release_public_jwk: string | null;
  wrapped_release_key: Uint8Array | null;
}

/** Ways to open the root key. */

export interface RootKeySlotTable {
  readonly id: string;
  readonly organization_id: string;
  /** `file`: the file holds the root key itself. `shamir`: shares give the key it is wrapped under. `pkcs11`: a token unwraps it. */
  readonly kind: 'file' | 'shamir' | 'pkcs11';
  readonly label: string;
  readonly created_at_ms: number;
  /** HMAC under the slot's key, which tells another key from a damaged row; null where a token has the key. */
  key_check: string | null;
  /** Null for a file. */
  wrapped_root_key: Uint8Array | null;
  /** JSON: of shares, how many and their digests; of a token, its URI without the PIN. */
  parameters: string;
}

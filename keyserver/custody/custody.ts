/**
 * Who can open keys. The root key never leaves custody; everything else is stored wrapped, root key ->
 * organization key -> image keys and the organization's own private keys.
 */

export interface Custody {
  /**
   * Seals a key.
   * @param purpose what the key is and whose; opening under any other purpose fails
   */
  wrap(key: Uint8Array, purpose: string): Promise<Uint8Array>;
  /** @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED for another root key, purpose, or changed bytes */
  unwrap(wrapped: Uint8Array, purpose: string): Promise<Uint8Array>;
}

/**
 * The seam between image work and key wrapping. A scheme wraps the private options of a layer (the JSON of
 * ocicrypt blockcipher.go: symmetric key, digest, nonce) into one element of its annotation's comma list.
 */

/** Annotation that holds the public options of an encrypted layer (ocicrypt encryption.go). */
export const PUBLIC_OPTIONS_ANNOTATION = 'org.opencontainers.image.enc.pubopts';
/** Annotations with this prefix belong to layer encryption and are dropped on decrypt. */
export const ENCRYPTION_ANNOTATION_PREFIX = 'org.opencontainers.image.enc.';
/** Suffix that marks an encrypted layer's media type (ocicrypt spec/spec.go). */
export const ENCRYPTED_SUFFIX = '+encrypted';

export interface KeyWrapper {
  /** The annotation this scheme reads and writes. */
  readonly annotation: string;
  /** Gives one element: bytes of the scheme's own format, not yet base64. */
  wrap(privateOptions: Uint8Array): Promise<Uint8Array>;
}

export interface KeyUnwrapper {
  readonly annotation: string;
  /**
   * Opens one element.
   * @returns the private options; null = not wrapped for this key
   * @throws LatchkeyError INPUT_MALFORMED, CRYPTO_AUTHENTICATION_FAILED when it is for this key but damaged
   */
  unwrap(element: Uint8Array): Promise<Uint8Array | null>;
}

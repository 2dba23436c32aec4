/**
 * ocicrypt's layer cipher AES_256_CTR_HMAC_SHA256 (blockcipher/blockcipher_aes_ctr.go): AES-256-CTR with the
 * 16-byte nonce as the whole initial counter block, HMAC-SHA256 over the ciphertext with the same key, no header
 * and no trailer. Trap: plaintext comes out before the MAC is known, so whoever consumes it must hold back its
 * tail until `verify` has returned.
 */
import {
  type Cipheriv,
  type Decipheriv,
  createCipheriv,
  createDecipheriv,
  createHmac,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  LAYER_KEY_BYTES,
  LAYER_NONCE_BYTES,
  type PrivateLayerOptions,
  type PublicLayerOptions,
} from './layer-options.ts';

type LayerMac = ReturnType<typeof createHmac>;

/** The secret of one layer. A key is used for one layer only, hence any nonce is safe with it. */
export type LayerKey = Pick<PrivateLayerOptions, 'symmetricKey' | 'nonce'>;

/** A fresh random key and nonce. */
export function generateLayerKey(): LayerKey {
  return { symmetricKey: randomBytes(LAYER_KEY_BYTES), nonce: randomBytes(LAYER_NONCE_BYTES) };
}

/** The encrypting half alone, for callers that compute the MAC on another thread. */
export function createLayerCipher(key: LayerKey): Cipheriv {
  return createCipheriv('aes-256-ctr', key.symmetricKey, key.nonce);
}

/** The decrypting half alone; what it gives is not authenticated. */
export function createLayerDecipher(key: LayerKey): Decipheriv {
  return createDecipheriv('aes-256-ctr', key.symmetricKey, key.nonce);
}

/** The authenticating half alone; it is fed with ciphertext. */
export function createLayerMac(key: Pick<LayerKey, 'symmetricKey'>): LayerMac {
  return createHmac('sha256', key.symmetricKey);
}

/** Encrypts one layer, chunk by chunk. */
export class LayerEncryptor {
  readonly #cipher: Cipheriv;
  readonly #mac: LayerMac;

  constructor(key: LayerKey) {
    this.#cipher = createLayerCipher(key);
    this.#mac = createLayerMac(key);
  }

  /** Gives the ciphertext of a chunk; the same length. */
  update(plaintext: Uint8Array): Buffer {
    const ciphertext = this.#cipher.update(plaintext);
    this.#mac.update(ciphertext);
    return ciphertext;
  }

  /** The MAC over everything; ends the encryptor. */
  finish(): Buffer {
    return this.#mac.digest();
  }
}

/** Decrypts one layer, chunk by chunk, and says at the end whether it was authentic. */
export class LayerDecryptor {
  readonly #decipher: Decipheriv;
  readonly #mac: LayerMac;
  readonly #expectedMac: Uint8Array;

  constructor(key: LayerKey, options: PublicLayerOptions) {
    this.#decipher = createLayerDecipher(key);
    this.#mac = createLayerMac(key);
    this.#expectedMac = options.mac;
  }

  /** Gives the not yet authenticated plaintext of a chunk; the same length. */
  update(ciphertext: Uint8Array): Buffer {
    this.#mac.update(ciphertext);
    return this.#decipher.update(ciphertext);
  }

  /**
   * Compares the MAC in constant time; ends the decryptor.
   * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED
   */
  verify(): void {
    verifyLayerMac(this.#mac.digest(), this.#expectedMac);
  }
}

/**
 * Compares two MACs in constant time.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED
 */
export function verifyLayerMac(actual: Uint8Array, expected: Uint8Array): void {
  if (actual.length === expected.length && timingSafeEqual(actual, expected)) return;
  throw new LatchkeyError(
    'CRYPTO_AUTHENTICATION_FAILED',
    'the layer was changed after it was encrypted, or its key is not the right one',
    { hint: 'pull or copy the image again; if it stays, the image in the registry is damaged' },
  );
}

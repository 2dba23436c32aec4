/** MAC and digest of one layer's ciphertext. Small, because the hash thread loads it. */
import { type Hash, createHash } from 'node:crypto';
import { type LayerKey, createLayerMac } from '#src/crypto/layer-cipher.ts';

export interface CiphertextDigests {
  readonly mac: Uint8Array;
  /** SHA-256 (hex) of the ciphertext. */
  readonly ciphertextSha256: string;
}

export class CiphertextHasher {
  readonly #mac: ReturnType<typeof createLayerMac>;
  readonly #hash: Hash = createHash('sha256');

  constructor(key: Pick<LayerKey, 'symmetricKey'>) {
    this.#mac = createLayerMac(key);
  }

  update(ciphertext: Uint8Array): void {
    this.#mac.update(ciphertext);
    this.#hash.update(ciphertext);
  }

  finish(): CiphertextDigests {
    return { mac: this.#mac.digest(), ciphertextSha256: this.#hash.digest('hex') };
  }
}

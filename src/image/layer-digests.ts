/**
 * The hash passes over one layer that need not run on the thread that encrypts it: MAC and digest of the ciphertext,
 * and the diff IDs of a gzip layer. Small, because the worker thread loads it.
 */
import { type Hash, createHash } from 'node:crypto';
import { createLayerMac } from '#src/crypto/layer-cipher.ts';
import { type DiffIds, DiffIdHasher } from './diff-id.ts';

export interface LayerDigestRequest {
  readonly symmetricKey: Uint8Array;
  /** Uncompressed salt bytes at the end of a gzip layer whose diff IDs are wanted; undefined = not wanted. */
  readonly gzipTailBytes?: number | undefined;
}

export interface LayerDigestResult {
  readonly mac: Uint8Array;
  /** SHA-256 (hex) of the ciphertext. */
  readonly ciphertextSha256: string;
  readonly diffIds?: DiffIds | undefined;
}

export class LayerDigests {
  readonly #mac: ReturnType<typeof createLayerMac>;
  readonly #hash: Hash = createHash('sha256');
  readonly #diffIds: DiffIdHasher | undefined;

  constructor(request: LayerDigestRequest) {
    this.#mac = createLayerMac(request);
    if (request.gzipTailBytes !== undefined) this.#diffIds = new DiffIdHasher(request.gzipTailBytes);
  }

  /**
   * Takes a chunk in both forms; both must stay unchanged until the promise settles.
   * @throws LatchkeyError INPUT_MALFORMED
   */
  async update(plaintext: Uint8Array, ciphertext: Uint8Array): Promise<void> {
    // Inflate runs on the thread pool; the hashes below overlap with it.
    const inflated = this.#diffIds?.update(plaintext);
    this.#mac.update(ciphertext);
    this.#hash.update(ciphertext);
    await inflated;
  }

  /** @throws LatchkeyError INPUT_MALFORMED */
  async finish(): Promise<LayerDigestResult> {
    const diffIds = await this.#diffIds?.finish();
    return { mac: this.#mac.digest(), ciphertextSha256: this.#hash.digest('hex'), diffIds };
  }

  close(): void {
    this.#diffIds?.close();
  }
}

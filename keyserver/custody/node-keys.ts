/** Public keys of nodes as ciphers take them. Reading one costs as much as its use (measured), so each is read once. */
import { type KeyObject, createPublicKey } from 'node:crypto';
import type { JWK } from 'jose';
import { BoundedMap } from '#src/base/bounded-map.ts';
import { MAX_CACHED_NODE_KEYS } from '../limits.ts';

export class NodeKeys {
  /** By the key's own text, so that no entry can be out of date. */
  readonly #keys = new BoundedMap<string, KeyObject>(MAX_CACHED_NODE_KEYS);

  /**
   * Gives the key of a JWK.
   * @throws Error of node:crypto for what is no public key or a point that is not on its curve
   */
  read(publicJwk: string): KeyObject {
    const known = this.#keys.get(publicJwk);
    if (known !== undefined) return known;
    const key = createPublicKey({ key: JSON.parse(publicJwk) as JWK, format: 'jwk' });
    this.#keys.set(publicJwk, key);
    return key;
  }
}

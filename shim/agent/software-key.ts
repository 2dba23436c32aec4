/** P-256 keys in memory: the node key that is kept in a file, and TLS keys that are kept nowhere. */
import { type KeyObject, createPrivateKey, createPublicKey, diffieHellman, sign } from 'node:crypto';
import type { IdentityStore } from './node-identity.ts';
import type { NodeKey, TlsKey } from './node-key.ts';
import { makePrivateKeyPem } from './private-key.ts';

export class SoftwareKey implements TlsKey {
  readonly privateKeyPem: string;
  readonly isNodeKey: boolean;
  readonly #privateKey: KeyObject;

  /** @param privateKeyPem PKCS#8 */
  constructor(privateKeyPem: string, isNodeKey: boolean) {
    this.privateKeyPem = privateKeyPem;
    this.isNodeKey = isNodeKey;
    this.#privateKey = createPrivateKey(privateKeyPem);
  }

  /** For one run: it is written nowhere. */
  static async makeForTls(): Promise<SoftwareKey> {
    return new SoftwareKey(await makePrivateKeyPem(), false);
  }

  publicKey(): Promise<KeyObject> {
    return Promise.resolve(createPublicKey(this.#privateKey));
  }

  sign(bytes: Uint8Array): Promise<Buffer> {
    return Promise.resolve(sign('sha256', bytes, { key: this.#privateKey, dsaEncoding: 'ieee-p1363' }));
  }

  agree(publicKey: KeyObject): Promise<Buffer> {
    return Promise.resolve(diffieHellman({ privateKey: this.#privateKey, publicKey }));
  }
}

/** The node key in a file that only root can read. */
export class FileNodeKey implements NodeKey {
  readonly place = 'file';
  readonly #store: IdentityStore;
  #key: SoftwareKey | undefined;

  constructor(store: IdentityStore) {
    this.#store = store;
  }

  async prepare(): Promise<void> {
    await this.tlsKey();
  }

  async tlsKey(): Promise<SoftwareKey> {
    this.#key ??= new SoftwareKey(await this.#store.privateKeyPem(), true);
    return this.#key;
  }

  async publicKey(): Promise<KeyObject> {
    return (await this.tlsKey()).publicKey();
  }

  async sign(bytes: Uint8Array): Promise<Buffer> {
    return (await this.tlsKey()).sign(bytes);
  }

  async agree(publicKey: KeyObject): Promise<Buffer> {
    return (await this.tlsKey()).agree(publicKey);
  }
}

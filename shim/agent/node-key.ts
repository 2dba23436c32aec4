/** The key that this node is to its key server, wherever it lies: in a file (software-key.ts) or on a token (token-key.ts). */
import type { KeyObject } from 'node:crypto';

/** A P-256 key of which nobody sees the private half. */
export interface KeyUse {
  publicKey(): Promise<KeyObject>;
  /** ECDSA with SHA-256: r and s, 32 bytes each (IEEE P1363). */
  sign(bytes: Uint8Array): Promise<Buffer>;
  /** ECDH: the x coordinate of the product with another public key on P-256. */
  agree(publicKey: KeyObject): Promise<Buffer>;
}

/** Every use can fail with a LatchkeyError KEY_INVALID or KEY_NOT_FOUND, because tokens can be taken away. */
export interface NodeKey extends KeyUse {
  /** `file`, or in words which key on which token. */
  readonly place: string;
  /** Makes the key when there is none yet. */
  prepare(): Promise<void>;
  /** The key to do TLS with: Node takes no other than one in memory. */
  tlsKey(): Promise<TlsKey>;
}

export interface TlsKey extends KeyUse {
  readonly privateKeyPem: string;
  /** False for a key of this run alone, which needs a certificate of its own. */
  readonly isNodeKey: boolean;
}

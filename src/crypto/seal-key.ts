/**
 * The key server's way to write an envelope (envelope.ts opens it): compact JWE, ECDH-ES+A256KW with A256GCM
 * (RFC 7516; RFC 7518, 4.6 and appendix C), P-256 only. Written over node:crypto because it seals a key per
 * start and WebCrypto costs four times as much (measured).
 */
import { createCipheriv, createECDH, createSecretKey, randomBytes } from 'node:crypto';
import { AGREEMENT_ALGORITHM, KEY_BYTES, KEY_WRAP_INITIAL_VALUE, deriveWrappingKey } from './agreed-key.ts';
import type { EnvelopePurpose } from './envelope.ts';

const NONCE_BYTES = 12;

/** Coordinates of a P-256 public key, base64url, as a JWK has them. */
export interface PublicPoint {
  readonly x: string;
  readonly y: string;
}

/**
 * Seals a key for the holder of the private key.
 * @throws Error of node:crypto for a point that is not on the curve
 */
export function sealKey(recipient: PublicPoint, key: Uint8Array, purpose: EnvelopePurpose): string {
  // A fresh pair per seal: the agreed secret is used once, so nonces cannot repeat.
  const ephemeral = createECDH('prime256v1');
  const point = ephemeral.generateKeys();
  const secret = ephemeral.computeSecret(uncompressed(recipient));
  // Ciphers take key objects three times faster than bytes (Node 24, measured).
  const contentKey = randomBytes(KEY_BYTES);
  const wrapper = createCipheriv(
    'id-aes256-wrap',
    createSecretKey(deriveWrappingKey(secret)),
    KEY_WRAP_INITIAL_VALUE,
  );
  const encryptedKey = Buffer.concat([wrapper.update(contentKey), wrapper.final()]);
  const header = base64url(
    JSON.stringify({
      alg: AGREEMENT_ALGORITHM,
      enc: 'A256GCM',
      typ: purpose,
      epk: {
        kty: 'EC',
        crv: 'P-256',
        x: base64url(point.subarray(1, 1 + KEY_BYTES)),
        y: base64url(point.subarray(1 + KEY_BYTES)),
      },
    }),
  );
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(contentKey), nonce);
  cipher.setAAD(Buffer.from(header));
  const ciphertext = Buffer.concat([cipher.update(key), cipher.final()]);
  const parts = [encryptedKey, nonce, ciphertext, cipher.getAuthTag()].map(base64url);
  return [header, ...parts].join('.');
}

/** SEC 1, 2.3.3: 4, x, y. */
function uncompressed({ x, y }: PublicPoint): Buffer {
  return Buffer.concat([Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
}

function base64url(bytes: Uint8Array | string): string {
  return Buffer.from(bytes).toString('base64url');
}

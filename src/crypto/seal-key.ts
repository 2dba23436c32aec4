/**
 * The key server's way to write an envelope (envelope.ts opens it): compact JWE, ECDH-ES+A256KW with A256GCM
 * (RFC 7516; RFC 7518, 4.6 and appendix C), P-256 only. Written over node:crypto because it seals a key per
 * start and WebCrypto costs four times as much (measured). Synchronous, because Node.js needs as long to hand each step
 * to another thread as the step takes (measured): who must not wait seals on a thread of its own.
 */
import {
  type KeyObject,
  createCipheriv,
  createSecretKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
} from 'node:crypto';
import { AGREEMENT_ALGORITHM, KEY_BYTES, KEY_WRAP_INITIAL_VALUE, deriveWrappingKey } from './agreed-key.ts';
import type { EnvelopePurpose } from './envelope.ts';

const NONCE_BYTES = 12;

/**
 * Seals a key for the holder of the private key.
 * @param recipient its public half
 */
export function sealKey(recipient: KeyObject, key: Uint8Array, purpose: EnvelopePurpose): string {
  // A fresh pair per seal: the agreed secret is used once, so nonces cannot repeat.
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x, y } = publicKey.export({ format: 'jwk' });
  const secret = diffieHellman({ privateKey, publicKey: recipient });
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
      epk: { kty: 'EC', crv: 'P-256', x, y },
    }),
  );
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(contentKey), nonce);
  cipher.setAAD(Buffer.from(header));
  const ciphertext = Buffer.concat([cipher.update(key), cipher.final()]);
  const parts = [encryptedKey, nonce, ciphertext, cipher.getAuthTag()].map(base64url);
  return [header, ...parts].join('.');
}

function base64url(bytes: Uint8Array | string): string {
  return Buffer.from(bytes).toString('base64url');
}

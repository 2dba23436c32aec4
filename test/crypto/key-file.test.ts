import { type KeyObject, X509Certificate, generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { parsePrivateKey, parsePublicKey } from '#src/crypto/key-file.ts';
import { readVectorKey } from '../fakes/ocicrypt-vector.ts';

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const certificate = new X509Certificate(readVectorKey('rsa.crt'));
const jwk = (key: KeyObject) => Buffer.from(JSON.stringify(key.export({ format: 'jwk' })));
const refused = (message: RegExp) =>
  expect.objectContaining({
    code: 'KEY_INVALID',
    message: expect.stringMatching(message) as string,
  }) as unknown as Error;

describe('public key files', () => {
  test.each<[string, KeyObject, Uint8Array | string]>([
    ['SPKI PEM', ec.publicKey, ec.publicKey.export({ format: 'pem', type: 'spki' })],
    ['SPKI DER', ec.publicKey, ec.publicKey.export({ format: 'der', type: 'spki' })],
    ['PKCS#1 PEM', rsa.publicKey, rsa.publicKey.export({ format: 'pem', type: 'pkcs1' })],
    ['PKCS#1 DER', rsa.publicKey, rsa.publicKey.export({ format: 'der', type: 'pkcs1' })],
    ['JWK', ec.publicKey, jwk(ec.publicKey)],
    ['a PEM certificate', certificate.publicKey, certificate.toString()],
    ['a DER certificate', certificate.publicKey, certificate.raw],
  ])('are read as %s', (_form, key, bytes) => {
    expect(parsePublicKey(Buffer.from(bytes), 'key').equals(key)).toBe(true);
  });

  test('must not be private keys', () => {
    const pem = Buffer.from(ec.privateKey.export({ format: 'pem', type: 'pkcs8' }));
    expect(() => parsePublicKey(pem, 'k')).toThrow(refused(/private key where a public/));
    expect(() => parsePublicKey(jwk(ec.privateKey), 'k')).toThrow(refused(/private key where a public/));
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['nothing', Buffer.alloc(0), /not a public key/],
    ['noise', Buffer.from('hello'), /not a public key/],
    ['a JWK of nothing', Buffer.from('{"kty":"EC"}'), /not a public key/],
    [
      'a short RSA key',
      Buffer.from(
        generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'der', type: 'spki' }),
      ),
      /RSA key of 1024 bits/,
    ],
    [
      'another curve',
      Buffer.from(
        generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey.export({
          format: 'der',
          type: 'spki',
        }),
      ),
      /curve secp256k1/,
    ],
    [
      'a signing key',
      Buffer.from(generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' })),
      /of type ed25519/,
    ],
  ])('with %s are refused', (_what, bytes, message) => {
    expect(() => parsePublicKey(bytes, 'k')).toThrow(refused(message));
  });
});

describe('private key files', () => {
  test.each<[string, KeyObject, Uint8Array | string]>([
    ['PKCS#8 PEM', ec.privateKey, ec.privateKey.export({ format: 'pem', type: 'pkcs8' })],
    ['PKCS#8 DER', ec.privateKey, ec.privateKey.export({ format: 'der', type: 'pkcs8' })],
    ['SEC1 PEM', ec.privateKey, ec.privateKey.export({ format: 'pem', type: 'sec1' })],
    ['SEC1 DER', ec.privateKey, ec.privateKey.export({ format: 'der', type: 'sec1' })],
    ['PKCS#1 PEM', rsa.privateKey, rsa.privateKey.export({ format: 'pem', type: 'pkcs1' })],
    ['PKCS#1 DER', rsa.privateKey, rsa.privateKey.export({ format: 'der', type: 'pkcs1' })],
    ['JWK', rsa.privateKey, jwk(rsa.privateKey)],
  ])('are read as %s', (_form, key, bytes) => {
    expect(parsePrivateKey(Buffer.from(bytes), 'key').equals(key)).toBe(true);
  });

  test('with a passphrase are refused with what to do', () => {
    const pem = ec.privateKey.export({
      format: 'pem',
      type: 'pkcs8',
      cipher: 'aes-256-cbc',
      passphrase: 'x',
    });
    expect(() => parsePrivateKey(Buffer.from(pem), 'k')).toThrow(refused(/is protected by a password/));
  });

  test('must not be public keys', () => {
    const pem = Buffer.from(ec.publicKey.export({ format: 'pem', type: 'spki' }));
    expect(() => parsePrivateKey(pem, 'k')).toThrow(refused(/public key where the private/));
  });
});

/** Private keys behind passwords, certificates, JWK algorithms, and which of them a file holds. */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { keyFileContents } from '#src/crypto/key-file-contents.ts';
import { jwkAlgorithm, parseCertificates, parsePrivateKey, parsePublicKey } from '#src/crypto/key-file.ts';
import { readVectorKey } from '../fakes/ocicrypt-vector.ts';

const PASSWORD = 'correct horse';
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const protection = { cipher: 'aes-256-cbc', passphrase: PASSWORD } as const;
const refused = (message: RegExp) =>
  expect.objectContaining({
    code: 'KEY_INVALID',
    message: expect.stringMatching(message) as string,
  }) as unknown as Error;

/** PEM with a DEK-Info line, which only openssl still writes. */
function legacyPem(type: 'rsa' | 'ec', cipher: string): string {
  const pair = type === 'rsa' ? rsa : ec;
  const input = pair.privateKey.export({ format: 'pem', type: 'pkcs8' });
  return execFileSync('openssl', [type, '-traditional', cipher, '-passout', `pass:${PASSWORD}`], {
    input,
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'ignore'],
  });
}

describe.each([
  ['PKCS#8 PEM', ec, ec.privateKey.export({ format: 'pem', type: 'pkcs8', ...protection })],
  ['PKCS#8 DER', rsa, rsa.privateKey.export({ format: 'der', type: 'pkcs8', ...protection })],
  ['legacy RSA PEM with 3DES', rsa, legacyPem('rsa', '-des3')],
  ['legacy RSA PEM with AES', rsa, legacyPem('rsa', '-aes256')],
])('a protected private key in %s', (_form, { privateKey }, content) => {
  const bytes = Buffer.from(content);

  test('opens with its password', () => {
    expect(parsePrivateKey(bytes, 'k', PASSWORD).equals(privateKey)).toBe(true);
  });

  test('says that it needs one', () => {
    expect(() => parsePrivateKey(bytes, 'k')).toThrow(refused(/protected by a password/));
  });

  test.each(['wrong secret', ''])('refuses another one (%j) without showing it', (password) => {
    try {
      parsePrivateKey(bytes, 'k', password);
      expect.unreachable();
    } catch (error) {
      expect(error).toEqual(refused(/does not open with this password/));
      const { stack = '', cause, hint = '' } = error as LatchkeyError;
      expect(`${stack}${String(cause)}${hint}`).not.toContain('wrong secret');
    }
  });
});

test('a password for a key that needs none does not matter', () => {
  const pem = Buffer.from(ec.privateKey.export({ format: 'pem', type: 'sec1' }));
  expect(parsePrivateKey(pem, 'k', 'any').equals(ec.privateKey)).toBe(true);
});

describe('a file with a private key and its certificate', () => {
  const [certificate, key] = [readVectorKey('rsa.crt'), readVectorKey('rsa.pem')];

  test.each([
    ['key first', Buffer.concat([key, certificate])],
    ['certificate first', Buffer.concat([certificate, key])],
  ])('gives both, %s', (_order, both) => {
    const [found, ...others] = parseCertificates(both);
    expect(found?.checkPrivateKey(parsePrivateKey(both, 'k'))).toBe(true);
    expect(others).toEqual([]);
    expect(keyFileContents(both)).toBe('key');
  });

  test('gives all certificates of a chain, in their order', () => {
    const chain = Buffer.concat([certificate, readVectorKey('token.crt')]);
    expect(parseCertificates(chain).map(({ subject }) => subject)).toEqual([
      'O=Acme\nCN=Customer',
      'O=Acme\nCN=Another customer',
    ]);
  });
});

test.each<[string, Uint8Array, string]>([
  ['a certificate', readVectorKey('rsa.crt'), 'certificate'],
  ['a DER certificate', parseCertificates(readVectorKey('rsa.crt'))[0]!.raw, 'certificate'],
  ['an armored PGP key', readVectorKey('pgp.asc'), 'pgp'],
  ['a binary PGP key', readVectorKey('pgp-locked.gpg'), 'pgp'],
  ['a binary public PGP key', readVectorKey('pgp.pub.gpg'), 'pgp'],
  ['a PKCS#11 key file', Buffer.from('# key\npkcs11:\n  uri: x\n'), 'pkcs11'],
  ['a PEM key', readVectorKey('ec.pem'), 'key'],
  ['a DER key', ec.privateKey.export({ format: 'der', type: 'pkcs8' }), 'key'],
  ['a JWK', Buffer.from(JSON.stringify(ec.privateKey.export({ format: 'jwk' }))), 'key'],
  ['nothing', Buffer.alloc(0), 'key'],
])('%s is known by its content', (_what, bytes, contents) => {
  expect(keyFileContents(bytes)).toBe(contents);
});

describe('the algorithm of a JWK', () => {
  const jwk = (members: object) =>
    Buffer.from(JSON.stringify({ ...ec.publicKey.export({ format: 'jwk' }), ...members }));

  test('is what it says, and nothing for other files', () => {
    expect(jwkAlgorithm(jwk({ alg: 'ECDH-ES+A128KW' }), 'k')).toBe('ECDH-ES+A128KW');
    expect(jwkAlgorithm(jwk({}), 'k')).toBeUndefined();
    expect(jwkAlgorithm(readVectorKey('ec.pub.pem'), 'k')).toBeUndefined();
  });

  test('must be text', () => {
    expect(() => jwkAlgorithm(jwk({ alg: 1 }), 'k')).toThrow(refused(/not text/));
  });
});

test('any bytes give a key or nothing but our own error', () => {
  const pem = readVectorKey('rsa.pem');
  const changed = fc
    .tuple(fc.nat(pem.length - 1), fc.nat(255))
    .map(([position, byte]) => pem.map((old, index) => (index === position ? byte : old)));
  const armored = fc.uint8Array({ maxLength: 60 }).map((bytes) => {
    return Buffer.from(
      `-----BEGIN PRIVATE KEY-----\n${Buffer.from(bytes).toString('base64')}\n-----END PRIVATE KEY-----\n`,
    );
  });
  const jwk = fc.jsonValue().map((value) => Buffer.from(JSON.stringify({ kty: 'EC', d: value, alg: value })));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), changed, armored, jwk), (bytes) => {
      for (const parse of [parsePrivateKey, parsePublicKey, jwkAlgorithm]) {
        try {
          parse(bytes, 'k');
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }
      expect(parseCertificates(bytes)).toEqual([]);
      keyFileContents(bytes);
    }),
  );
});

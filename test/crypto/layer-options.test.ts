import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  formatPrivateOptions,
  formatPublicOptions,
  parsePrivateOptions,
  parsePublicOptions,
} from '#src/crypto/layer-options.ts';
import { digestOf } from '#src/oci/digest.ts';

const KEY = Buffer.alloc(32, 1).toString('base64');
const NONCE = Buffer.alloc(16, 2).toString('base64');
const MAC = Buffer.alloc(32, 3).toString('base64');

const privateJson = (fields: object) =>
  Buffer.from(
    JSON.stringify({ symkey: KEY, digest: digestOf(''), cipheroptions: { nonce: NONCE }, ...fields }),
  );
const publicJson = (fields: object) =>
  Buffer.from(JSON.stringify({ cipher: 'AES_256_CTR_HMAC_SHA256', hmac: MAC, cipheroptions: {}, ...fields }));

describe('private layer options', () => {
  test('are written as Go writes them', () => {
    const text = Buffer.from(
      formatPrivateOptions({
        symmetricKey: Buffer.alloc(32, 1),
        nonce: Buffer.alloc(16, 2),
        plainDigest: digestOf('x'),
      }),
    ).toString();
    expect(text).toBe(`{"symkey":"${KEY}","digest":"${digestOf('x')}","cipheroptions":{"nonce":"${NONCE}"}}`);
  });

  test('come back as they were', () => {
    const options = { symmetricKey: randomBytes(32), nonce: randomBytes(16), plainDigest: digestOf('y') };
    expect(parsePrivateOptions(formatPrivateOptions(options))).toEqual(options);
  });

  test('may lack a digest that others leave out or fill otherwise, and have fields we do not know', () => {
    expect(parsePrivateOptions(privateJson({ digest: '', image: 'later' })).plainDigest).toBeUndefined();
  });

  test.each([
    ['a nonce of 4 bytes', privateJson({ cipheroptions: { nonce: 'AAAAAA==' } })],
    ['no nonce', privateJson({ cipheroptions: {} })],
    ['null cipher options', privateJson({ cipheroptions: null })],
    ['a key of 31 bytes', privateJson({ symkey: Buffer.alloc(31).toString('base64') })],
    ['a key in URL-safe base64', privateJson({ symkey: Buffer.alloc(32, 255).toString('base64url') })],
    ['a number for a key', privateJson({ symkey: 7 })],
    ['a second spelling of a field', privateJson({ SymKey: KEY })],
    [
      'a key twice',
      Buffer.from(`{"symkey":"${KEY}","symkey":"${KEY}","cipheroptions":{"nonce":"${NONCE}"}}`),
    ],
    ['an array', Buffer.from('[]')],
    ['no JSON', Buffer.from('symkey')],
  ])('with %s are refused', (_what, bytes) => {
    expect(() => parsePrivateOptions(bytes)).toThrow(expect.objectContaining({ code: 'INPUT_MALFORMED' }));
  });
});

describe('public layer options', () => {
  test('are written as Go writes them, and read back', () => {
    const bytes = formatPublicOptions({ mac: Buffer.alloc(32, 3) });
    expect(Buffer.from(bytes).toString()).toBe(
      `{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"${MAC}","cipheroptions":{}}`,
    );
    expect(Buffer.from(parsePublicOptions(bytes).mac).toString('base64')).toBe(MAC);
  });

  test.each([
    ['a nonce', publicJson({ cipheroptions: { nonce: NONCE } }), 'INPUT_MALFORMED'],
    ['an empty nonce', publicJson({ cipheroptions: { nonce: '' } }), 'INPUT_MALFORMED'],
    [
      'cipher options under another spelling',
      publicJson({ CipherOptions: { nonce: NONCE } }),
      'INPUT_MALFORMED',
    ],
    ['a spelling only Go takes', publicJson({ 'cipheroption\u017f': { nonce: NONCE } }), 'INPUT_MALFORMED'],
    ['another cipher', publicJson({ cipher: 'AES_128_CTR' }), 'INPUT_UNSUPPORTED'],
    ['no cipher', Buffer.from('{}'), 'INPUT_UNSUPPORTED'],
    ['a short MAC', publicJson({ hmac: Buffer.alloc(16).toString('base64') }), 'INPUT_MALFORMED'],
    ['no MAC', publicJson({ hmac: undefined }), 'INPUT_MALFORMED'],
  ])('with %s are refused', (_what, bytes, code) => {
    expect(() => parsePublicOptions(bytes)).toThrow(expect.objectContaining({ code }));
  });

  test('of any shape throw nothing but our own error', () => {
    const parsers = [parsePublicOptions, parsePrivateOptions];
    const documents = fc.oneof(
      fc.json().map((text) => Buffer.from(text)),
      fc.uint8Array(),
      fc.record({ cipher: fc.string(), hmac: fc.jsonValue(), cipheroptions: fc.jsonValue() }).map(publicJson),
      fc.record({ symkey: fc.jsonValue(), cipheroptions: fc.jsonValue() }).map(privateJson),
    );
    fc.assert(
      fc.property(documents, fc.constantFrom(...parsers), (bytes, parse) => {
        try {
          parse(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
    );
  });
});

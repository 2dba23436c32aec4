import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseKeyArgument, parseRecipient } from '#src/keywrap/recipient.ts';

const raises = (code: string) => expect.objectContaining({ code }) as unknown as Error;

describe('a recipient', () => {
  test.each([
    ['jwe:a/b:c.pem', { scheme: 'jwe', path: 'a/b:c.pem' }],
    ['pkcs7:x.crt', { scheme: 'pkcs7', path: 'x.crt' }],
    ['pkcs11:k.yaml', { scheme: 'pkcs11', path: 'k.yaml' }],
    ['pgp:Ann Example', { scheme: 'pgp', name: 'Ann Example' }],
    ['provider:kms', { scheme: 'provider', name: 'kms', parameter: 'Enabled' }],
    ['provider:kms:tenant=a:b', { scheme: 'provider', name: 'kms', parameter: 'tenant=a:b' }],
    ['provider:kms:', { scheme: 'provider', name: 'kms', parameter: '' }],
  ])('%s is read', (text, recipient) => {
    expect(parseRecipient(text)).toEqual(recipient);
  });

  test.each(['', 'jwe', 'jwe:', 'JWE:x', 'key.pem', 'pgp:', 'pgp:a\nb', 'provider::x', 'provider:a b', ':x'])(
    '%j is refused',
    (text) => {
      expect(() => parseRecipient(text)).toThrow(raises('USAGE_INVALID'));
    },
  );
});

describe('a key', () => {
  test.each([
    ['a.pem', { scheme: 'file', path: 'a.pem', password: undefined }],
    ['a.pem:file=p', { scheme: 'file', path: 'a.pem', password: { kind: 'file', path: 'p' } }],
    ['a.pem:fd=3', { scheme: 'file', path: 'a.pem', password: { kind: 'descriptor', descriptor: 3 } }],
    ['a.pem:pass=a:b', { scheme: 'file', path: 'a.pem', password: { kind: 'text', text: 'a:b' } }],
    ['a.pem:word', { scheme: 'file', path: 'a.pem', password: { kind: 'text', text: 'word' } }],
    ['pkcs11:token=t', { scheme: 'pkcs11', uri: 'pkcs11:token=t' }],
    ['provider:kms:a', { scheme: 'provider', name: 'kms', parameter: 'a' }],
    ['provider', { scheme: 'file', path: 'provider', password: undefined }],
  ])('%s is read', (text, key) => {
    expect(parseKeyArgument(text)).toEqual(key);
  });

  test.each(['', ':pass=x', 'a.pem:fd=x', 'a.pem:fd=-1', 'provider:a b', 'a\0b'])('%j is refused', (text) => {
    expect(() => parseKeyArgument(text)).toThrow(raises('USAGE_INVALID'));
  });
});

test('any text gives an argument or our own error, and of a key none that repeats its password', () => {
  fc.assert(
    fc.property(fc.string(), fc.constantFrom('', ':', ':fd=', 'k:pass='), (text, middle) => {
      for (const parse of [parseRecipient, parseKeyArgument]) {
        try {
          parse(`${text}${middle}S3CRET`);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
          if (parse === parseKeyArgument && middle !== '') expect(String(error)).not.toContain('S3CRET');
        }
      }
    }),
  );
});

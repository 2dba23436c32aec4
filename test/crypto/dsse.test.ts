import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_STATEMENT_ENVELOPE_BYTES, MAX_STATEMENT_SIGNATURES } from '#src/base/limits.ts';
import {
  type DsseEnvelope,
  encodeDsseEnvelope,
  parseDsseEnvelope,
  signDsseEnvelope,
  verifyDsseEnvelope,
} from '#src/crypto/dsse.ts';
import { keyThumbprint, parseSigningKey, parseVerificationKey } from '#src/crypto/signing-key.ts';
import { signingKeyPair } from '../fakes/release-statement.ts';

const unsigned = { payloadType: 'text/plain', payload: Buffer.from('hello world'), signatures: [] };
const jsonOf = (value: unknown) => Buffer.from(JSON.stringify(value));

function coordinate(decimal: string): string {
  return Buffer.from(BigInt(decimal).toString(16).padStart(64, '0'), 'hex').toString('base64url');
}

describe('an envelope', () => {
  test('of the DSSE specification verifies (protocol.md, "Test Vectors")', () => {
    const key = createPublicKey({
      format: 'jwk',
      key: {
        kty: 'EC',
        crv: 'P-256',
        x: coordinate('46950820868899156662930047687818585632848591499744589407958293238635476079160'),
        y: coordinate('5640078356564379163099075877009565129882514886557779369047442380624545832820'),
      },
    });
    const envelope = parseDsseEnvelope(
      jsonOf({
        payload: 'aGVsbG8gd29ybGQ=',
        payloadType: 'http://example.com/HelloWorld',
        signatures: [
          {
            sig: 'A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==',
          },
        ],
      }),
    );
    expect(verifyDsseEnvelope(envelope, [key])).toBe(key);
    expect(verifyDsseEnvelope({ ...envelope, payloadType: 'http://example.com/HelloWorle' }, [key])).toBe(
      undefined,
    );
  });

  test.each(['ed25519', 'ec'] as const)('signed with %s says which key verifies it', (type) => {
    const [own, other] = [signingKeyPair(type), signingKeyPair(type)];
    const envelope = parseDsseEnvelope(encodeDsseEnvelope(signDsseEnvelope(unsigned, own.privateKey)));
    expect(verifyDsseEnvelope(envelope, [other.publicKey, own.publicKey])).toBe(own.publicKey);
    expect(verifyDsseEnvelope(envelope, [other.publicKey])).toBe(undefined);
    expect(verifyDsseEnvelope(envelope, [])).toBe(undefined);
    expect(envelope.signatures.map(({ keyId }) => keyId)).toEqual([keyThumbprint(own.publicKey)]);
  });

  test('takes several signatures, and one of each key', () => {
    const [first, second] = [signingKeyPair('ed25519'), signingKeyPair('ec')];
    const twice = [first, second, first].reduce(
      (envelope, { privateKey }) => signDsseEnvelope(envelope, privateKey),
      parseDsseEnvelope(encodeDsseEnvelope(unsigned)),
    );
    expect(twice.signatures).toHaveLength(2);
    expect(verifyDsseEnvelope(twice, [first.publicKey])).toBe(first.publicKey);
    expect(verifyDsseEnvelope(twice, [second.publicKey])).toBe(second.publicKey);
  });

  test('verifies whatever key a signature claims to be of', () => {
    const { privateKey, publicKey } = signingKeyPair();
    const { signatures, ...rest } = signDsseEnvelope(unsigned, privateKey);
    const renamed = { ...rest, signatures: signatures.map((one) => ({ ...one, keyId: 'another' })) };
    expect(verifyDsseEnvelope(renamed, [publicKey])).toBe(publicKey);
  });

  test('reads both alphabets of base64 and nothing between', () => {
    const payload = Buffer.from([0xfb, 0xff, 0xfe]);
    const of = (text: string) =>
      parseDsseEnvelope(jsonOf({ payloadType: 't', payload: text, signatures: [] }));
    expect(of('+//+').payload).toEqual(payload);
    expect(of('-__-').payload).toEqual(payload);
    for (const text of ['+__-', '+/ /+', 'Zh==', 'Z']) expect(() => of(text)).toThrow(LatchkeyError);
  });

  test.each([
    ['too large', Buffer.alloc(MAX_STATEMENT_ENVELOPE_BYTES + 1, 0x20)],
    ['not JSON', Buffer.from('{')],
    ['of another shape', jsonOf({ payload: 'aa==', signatures: [] })],
    ['with a payload twice', Buffer.from('{"payloadType":"t","payload":"","payload":"","signatures":[]}')],
    [
      'with 100 signatures',
      jsonOf({ payloadType: 't', payload: '', signatures: Array(100).fill({ sig: '' }) }),
    ],
  ])('is refused when it is %s', (_name, bytes) => {
    expect(() => parseDsseEnvelope(bytes)).toThrow(LatchkeyError);
  });

  test('does not get so many signatures that nobody could read it any more', () => {
    const sign = (envelope: DsseEnvelope) => signDsseEnvelope(envelope, signingKeyPair('ed25519').privateKey);
    const full = Array.from({ length: MAX_STATEMENT_SIGNATURES }).reduce<DsseEnvelope>(sign, unsigned);
    expect(parseDsseEnvelope(encodeDsseEnvelope(full)).signatures).toHaveLength(MAX_STATEMENT_SIGNATURES);
    expect(() => sign(full)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }));
  });

  test('never verifies once a byte has changed, and only LatchkeyErrors come out', () => {
    const keys = [signingKeyPair('ed25519'), signingKeyPair('ec')];
    const bytes = encodeDsseEnvelope(
      keys.reduce<DsseEnvelope>((envelope, { privateKey }) => signDsseEnvelope(envelope, privateKey), {
        ...unsigned,
        payload: randomBytes(40),
      }),
    );
    const whole = parseDsseEnvelope(bytes);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (position, flip) => {
        const changed = Buffer.from(bytes);
        changed[position] = (changed[position] ?? 0) ^ flip;
        try {
          const envelope = parseDsseEnvelope(changed);
          const isSame =
            envelope.payloadType === whole.payloadType &&
            Buffer.from(envelope.payload).equals(Buffer.from(whole.payload));
          if (!isSame)
            expect(
              verifyDsseEnvelope(
                envelope,
                keys.map((key) => key.publicKey),
              ),
            ).toBe(undefined);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('of arbitrary JSON raises nothing but LatchkeyErrors', () => {
    const { publicKey } = signingKeyPair();
    const shape = fc.record(
      {
        payloadType: fc.oneof(fc.string(), fc.anything()),
        payload: fc.oneof(fc.base64String(), fc.anything()),
        signatures: fc.oneof(
          fc.array(fc.record({ keyid: fc.string(), sig: fc.base64String() }, { requiredKeys: ['sig'] })),
          fc.anything(),
        ),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(shape, fc.anything()), (value) => {
        try {
          const text = JSON.stringify(value) as string | undefined;
          const envelope = parseDsseEnvelope(Buffer.from(text ?? ''));
          expect(verifyDsseEnvelope(envelope, [publicKey])).toBe(undefined);
        } catch (error) {
          if (error instanceof TypeError && /BigInt|circular/.test(error.message)) return;
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('a signing key', () => {
  test.each(['ed25519', 'ec'] as const)('of type %s is read from PEM and JWK', (type) => {
    const { publicKey, privateKey } = signingKeyPair(type);
    const texts = [
      privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
      JSON.stringify(privateKey.export({ format: 'jwk' })),
    ];
    for (const text of texts) {
      expect(parseSigningKey(Buffer.from(text), 'key').equals(privateKey)).toBe(true);
      expect(() => parseVerificationKey(Buffer.from(text), 'key')).toThrow(/private key where a public one/);
    }
    const publicTexts = [
      publicKey.export({ format: 'pem', type: 'spki' }).toString(),
      JSON.stringify(publicKey.export({ format: 'jwk' })),
    ];
    for (const text of publicTexts) {
      expect(parseVerificationKey(Buffer.from(text), 'key').equals(publicKey)).toBe(true);
      expect(() => parseSigningKey(Buffer.from(text), 'key')).toThrow(LatchkeyError);
    }
  });

  test('has the thumbprint of RFC 8037, appendix A.3', () => {
    const key = createPublicKey({
      format: 'jwk',
      key: { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' },
    });
    expect(keyThumbprint(key)).toBe('kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k');
  });

  test.each([
    ['an RSA key', generateKeyPairSync('rsa', { modulusLength: 2048 })],
    ['a P-384 key', generateKeyPairSync('ec', { namedCurve: 'P-384' })],
    ['an X25519 key', generateKeyPairSync('x25519')],
  ])('is not %s', (_name, { publicKey, privateKey }) => {
    const pem = publicKey.export({ format: 'pem', type: 'spki' });
    expect(() => parseVerificationKey(Buffer.from(pem), 'key.pem')).toThrow(/key.pem is a/);
    expect(() => signDsseEnvelope(unsigned, privateKey)).toThrow(LatchkeyError);
  });

  test('that is garbage is refused in one line', () => {
    for (const text of ['', '{', '[]', '{"kty":"OKP"}', '-----BEGIN PUBLIC KEY-----\nAAAA\n']) {
      expect(() => parseVerificationKey(Buffer.from(text), 'key')).toThrow(LatchkeyError);
      expect(() => parseSigningKey(Buffer.from(text), 'key')).toThrow(LatchkeyError);
    }
  });
});

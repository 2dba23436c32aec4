import { type KeyObject, generateKeyPairSync, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { FlattenedEncrypt } from 'jose';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { createJweRecipient, createJweUnwrapper, createJweWrapper, parseJwe } from '#src/keywrap/jwe.ts';

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ec384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const secret = randomBytes(150);

interface Jwe {
  protected: string;
  recipients?: { header: Record<string, unknown>; encrypted_key: string }[];
  [member: string]: unknown;
}

async function wrapped(...keys: Parameters<typeof createJweWrapper>[0]): Promise<Jwe> {
  const element = await createJweWrapper(keys).wrap(secret);
  return JSON.parse(Buffer.from(element).toString()) as Jwe;
}

/** An element with any algorithms, as another writer could make it. */
async function foreign(publicKey: KeyObject, alg: string, enc: string): Promise<Buffer> {
  const jwe = new FlattenedEncrypt(secret).setProtectedHeader({ alg, enc });
  return bytesOf(await jwe.encrypt(publicKey));
}

const bytesOf = (jwe: object) => Buffer.from(JSON.stringify(jwe));
const base64url = (text: string) => Buffer.from(text).toString('base64url');

describe('the jwe scheme', () => {
  test.each([
    ['an EC key', ec, 'ECDH-ES+A256KW'],
    ['an RSA key', rsa, 'RSA-OAEP-256'],
  ])('writes a flattened JWE for %s', async (_what, pair, algorithm) => {
    const jwe = await wrapped(pair.publicKey);
    const header = JSON.parse(Buffer.from(jwe.protected, 'base64url').toString()) as object;
    expect(header).toMatchObject({ alg: algorithm, enc: 'A256GCM' });
    expect(await createJweUnwrapper(pair.privateKey).unwrap(bytesOf(jwe))).toEqual(new Uint8Array(secret));
  });

  test('writes one JWE for several recipients, and each opens it', async () => {
    const jwe = await wrapped(ec.publicKey, rsa.publicKey, ec384.publicKey);
    expect(jwe.recipients).toHaveLength(3);
    for (const { privateKey } of [ec, rsa, ec384]) {
      expect(await createJweUnwrapper(privateKey).unwrap(bytesOf(jwe))).toEqual(new Uint8Array(secret));
    }
    expect(await createJweUnwrapper(stranger.privateKey).unwrap(bytesOf(jwe))).toBeNull();
  });

  test("reads go-jose's extra top-level encrypted_key as the general form it is", async () => {
    const jwe = await wrapped(ec.publicKey, rsa.publicKey);
    const quirk = { ...jwe, encrypted_key: jwe.recipients?.[0]?.encrypted_key };
    expect(await createJweUnwrapper(rsa.privateKey).unwrap(bytesOf(quirk))).toEqual(new Uint8Array(secret));
  });

  test('refuses compression in every header', async () => {
    const refused = expect.objectContaining({
      code: 'INPUT_MALFORMED',
      message: 'the JWE is compressed, which is refused',
    }) as unknown as Error;
    const jwe = await wrapped(ec.publicKey, rsa.publicKey);
    const zipped = Buffer.from(JSON.stringify({ enc: 'A256GCM', zip: 'DEF' })).toString('base64url');
    const recipients = jwe.recipients?.map((recipient) => ({
      ...recipient,
      header: { ...recipient.header, zip: 'DEF' },
    }));
    for (const bad of [
      { ...jwe, protected: zipped },
      { ...jwe, unprotected: { zip: 'DEF' } },
      { ...jwe, recipients },
    ]) {
      await expect(createJweUnwrapper(ec.privateKey).unwrap(bytesOf(bad))).rejects.toThrow(refused);
    }
  });

  test.each([
    ['no JSON', Buffer.from('x')],
    ['an array', Buffer.from('[]')],
    ['no ciphertext', bytesOf({ protected: 'e30', iv: '', tag: '' })],
    ['an empty recipients list', bytesOf({ iv: '', tag: '', ciphertext: '', recipients: [] })],
    [
      'too many recipients',
      bytesOf({ iv: '', tag: '', ciphertext: '', recipients: Array(33).fill({}) as object[] }),
    ],
    ['a protected header that is no object', bytesOf({ protected: 'W10', iv: '', tag: '', ciphertext: '' })],
  ])('refuses %s', (_what, bytes) => {
    expect(() => parseJwe(bytes)).toThrow(expect.objectContaining({ code: 'INPUT_MALFORMED' }));
  });

  test('gives null or our own error for any document', async () => {
    const text = fc.oneof(fc.string(), fc.constant('e30'));
    const documents = fc.record(
      {
        protected: text,
        iv: text,
        ciphertext: text,
        tag: text,
        encrypted_key: text,
        header: fc.jsonValue(),
        recipients: fc.jsonValue(),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(documents, async (document) => {
        try {
          expect(await createJweUnwrapper(ec.privateKey).unwrap(bytesOf(document))).toBeNull();
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
    );
  });

  test.each([
    ['a JWK that chooses SHA-1', rsa, 'RSA-OAEP'],
    ['a JWK that chooses SHA-256', rsa, 'RSA-OAEP-256'],
    ['a JWK that chooses A128KW', ec, 'ECDH-ES+A128KW'],
    ['a JWK that chooses A192KW', ec384, 'ECDH-ES+A192KW'],
    ['a JWK that chooses A256KW', ec, 'ECDH-ES+A256KW'],
  ])('respects %s, alone and among others', async (_what, pair, algorithm) => {
    const recipient = createJweRecipient(pair.publicKey, algorithm, 'key.jwk');
    const alone = await wrapped(recipient);
    const header = JSON.parse(Buffer.from(alone.protected, 'base64url').toString()) as object;
    expect(header).toMatchObject({ alg: algorithm });
    const several = await wrapped(stranger.publicKey, recipient);
    expect(several.recipients?.[1]?.header).toMatchObject({ alg: algorithm });
    for (const jwe of [alone, several]) {
      expect(await createJweUnwrapper(pair.privateKey).unwrap(bytesOf(jwe))).toEqual(new Uint8Array(secret));
    }
  });

  test.each([
    [rsa, 'ECDH-ES+A256KW'],
    [ec, 'RSA-OAEP'],
    [ec, 'ECDH-ES'],
    [rsa, 'RSA1_5'],
    [rsa, 'dir'],
  ])('refuses a JWK that asks for an algorithm that is not its own (%#)', (pair, algorithm) => {
    expect(() => createJweRecipient(pair.publicKey, algorithm, 'key.jwk')).toThrow(
      expect.objectContaining({ code: 'KEY_INVALID' }),
    );
  });

  test.each(['A128GCM', 'A192GCM', 'A256GCM', 'A128CBC-HS256', 'A192CBC-HS384', 'A256CBC-HS512'])(
    'reads content in %s, as ocicrypt does',
    async (content) => {
      const element = await foreign(ec.publicKey, 'ECDH-ES+A256KW', content);
      expect(await createJweUnwrapper(ec.privateKey).unwrap(element)).toEqual(new Uint8Array(secret));
    },
  );

  // ocicrypt writes none of them; jose would read them all.
  test.each([
    ['ECDH-ES', ec],
    ['RSA-OAEP-384', rsa],
    ['RSA-OAEP-512', rsa],
  ])('takes a key by %s for the key of somebody else', async (algorithm, pair) => {
    const element = await foreign(pair.publicKey, algorithm, 'A256GCM');
    expect(await createJweUnwrapper(pair.privateKey).unwrap(element)).toBeNull();
  });

  test('never derives a key from a password, however the header asks', async () => {
    const header = { alg: 'PBES2-HS512+A256KW', enc: 'A256GCM', p2c: 2_000_000_000, p2s: 'AAAA' };
    const jwe = {
      protected: Buffer.from(JSON.stringify(header)).toString('base64url'),
      encrypted_key: 'AAAA',
      iv: 'AAAA',
      tag: 'AAAA',
      ciphertext: 'AAAA',
    };
    for (const { privateKey } of [ec, rsa]) {
      expect(await createJweUnwrapper(privateKey).unwrap(bytesOf(jwe))).toBeNull();
    }
  });

  test('refuses a million recipients before reading one', async () => {
    const recipients = `[${'{},'.repeat(999_999)}{}]`;
    const jwe = Buffer.from(`{"iv":"","tag":"","ciphertext":"","recipients":${recipients}}`);
    await expect(createJweUnwrapper(ec.privateKey).unwrap(jwe)).rejects.toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' }) as unknown,
    );
  });

  test.each([
    ['deep JSON', Buffer.from(`${'['.repeat(20_000)}${']'.repeat(20_000)}`)],
    ['a key twice', Buffer.from('{"iv":"","tag":"","ciphertext":"","iv":""}')],
    [
      'a header key twice',
      bytesOf({ protected: base64url('{"enc":"A","enc":"B"}'), iv: '', tag: '', ciphertext: '' }),
    ],
  ])('refuses %s', (_what, bytes) => {
    expect(() => parseJwe(bytes)).toThrow(expect.objectContaining({ code: 'INPUT_MALFORMED' }));
  });
});

import { createHash, createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { LayerDecryptor } from '#src/crypto/layer-cipher.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { publicOptionsOf, unwrapLayerKey } from '#src/keywrap/annotations.ts';
import { createJweUnwrapper, createJweWrapper, parseJwe } from '#src/keywrap/jwe.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ec384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const secret = randomBytes(150);

interface SkopeoVector {
  readonly descriptor: Descriptor;
  readonly ciphertext: string;
  readonly plaintext: string;
  readonly ecPrivateKey: string;
  readonly rsaPrivateKey: string;
}

const vector = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', 'vectors', 'skopeo-jwe.json'), 'utf8'),
) as SkopeoVector;

interface Jwe {
  protected: string;
  recipients?: { header: Record<string, unknown>; encrypted_key: string }[];
  [member: string]: unknown;
}

async function wrapped(...keys: Parameters<typeof createJweWrapper>[0]): Promise<Jwe> {
  const element = await createJweWrapper(keys).wrap(secret);
  return JSON.parse(Buffer.from(element).toString()) as Jwe;
}

const bytesOf = (jwe: object) => Buffer.from(JSON.stringify(jwe));

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

  test.each(['ecPrivateKey', 'rsaPrivateKey'] as const)(
    "opens skopeo's own layer with its %s",
    async (name) => {
      const { descriptor } = vector;
      const unwrapper = createJweUnwrapper(createPrivateKey(vector[name]));
      const privateOptions = await unwrapLayerKey(descriptor.annotations, [unwrapper]);
      const key = parsePrivateOptions(privateOptions!);
      const decryptor = new LayerDecryptor(key, publicOptionsOf(descriptor.annotations));
      const plaintext = decryptor.update(Buffer.from(vector.ciphertext, 'base64'));
      decryptor.verify();
      expect(plaintext.toString('base64')).toBe(vector.plaintext);
      expect(key.plainDigest).toBe(`sha256:${createHash('sha256').update(plaintext).digest('hex')}`);
    },
  );
});

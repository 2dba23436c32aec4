import { constants, generateKeyPairSync, privateDecrypt, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { parsePublicKey } from '#src/crypto/key-file.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import { formatPkcs11Envelope, parsePkcs11Envelope } from '#src/keywrap/pkcs11-envelope.ts';
import { createTokenDecryption, readTokenPublicKey } from '#src/keywrap/pkcs11-token.ts';
import { parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import { createPkcs11Unwrapper, createPkcs11Wrapper, oaepHashOf } from '#src/keywrap/pkcs11.ts';
import { digestOf } from '#src/oci/digest.ts';
import { elementsOf, readVector, readVectorKey } from '../fakes/ocicrypt-vector.ts';
import { type SoftToken, TOKEN_PIN, createSoftToken, softTokenSkipReason } from '../fakes/soft-token.ts';

const rsa2048 = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const tokenPublicKey = parsePublicKey(readVectorKey('token.pub.pem'), 'token');
const essential = { symmetricKey: randomBytes(32), nonce: randomBytes(16), plainDigest: digestOf('layer') };
const short = formatPrivateOptions(essential);
const long = formatPrivateOptions({ ...essential, sourceDiffId: digestOf('source') });
const raises = (code: string, message = /./) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as unknown as Error;

function decryptInSoftware(element: Uint8Array): string {
  const [block] = parsePkcs11Envelope(element);
  const { RSA_PKCS1_OAEP_PADDING: padding } = constants;
  const { privateKey: key } = rsa2048;
  return privateDecrypt({ key, padding, oaepHash: block!.hash }, block!.ciphertext).toString();
}

describe('the pkcs11 scheme', () => {
  test('leaves out of a short key what only Latchkey reads', async () => {
    const wrapper = createPkcs11Wrapper([rsa2048.publicKey], 'sha1');
    expect(decryptInSoftware(await wrapper.wrap(long))).toBe(Buffer.from(short).toString());
    expect(decryptInSoftware(await wrapper.wrap(short))).toBe(Buffer.from(short).toString());
  });

  test('says when even the rest does not fit', async () => {
    await expect(createPkcs11Wrapper([rsa2048.publicKey], 'sha256').wrap(short)).rejects.toThrow(
      raises('KEY_INVALID', /does not fit into an RSA key of 2048 bits with sha256/),
    );
  });

  test('needs RSA keys', () => {
    expect(() => createPkcs11Wrapper([ec.publicKey], 'sha256')).toThrow(raises('KEY_INVALID'));
  });

  test.each([
    [undefined, 'sha256'],
    ['', 'sha256'],
    ['SHA256', 'sha256'],
    ['sha1', 'sha1'],
  ])('takes its hash from the environment: %j is %s', (value, hash) => {
    expect(oaepHashOf({ OCICRYPT_OAEP_HASHALG: value })).toBe(hash);
  });

  test('refuses another hash in the environment', () => {
    expect(() => oaepHashOf({ OCICRYPT_OAEP_HASHALG: 'md5' })).toThrow(raises('CONFIG_INVALID'));
  });
});

describe('a pkcs11 envelope', () => {
  test('is written as skopeo writes it', () => {
    for (const name of ['skopeo-pkcs11-sha1', 'skopeo-pkcs11-sha256']) {
      const [element] = elementsOf(readVector(name), 'pkcs11');
      expect(formatPkcs11Envelope(parsePkcs11Envelope(element!)).toString()).toBe(element!.toString());
    }
  });

  const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));

  test('of an older writer without a hash means SHA-1', () => {
    expect(parsePkcs11Envelope(bytes({ recipients: [{ blob: 'AAAA' }] }))).toMatchObject([{ hash: 'sha1' }]);
  });

  test.each<[string, unknown, string]>([
    ['no recipients', { version: 0, recipients: [] }, 'INPUT_MALFORMED'],
    ['a newer version', { version: 1, recipients: [{ blob: 'AAAA' }] }, 'INPUT_UNSUPPORTED'],
    ['a newer recipient', { recipients: [{ version: 1, blob: 'AAAA' }] }, 'INPUT_UNSUPPORTED'],
    ['an unknown hash', { recipients: [{ blob: 'AAAA', hash: 'md5' }] }, 'INPUT_UNSUPPORTED'],
    ['no base64', { recipients: [{ blob: '!' }] }, 'INPUT_MALFORMED'],
    ['many recipients', { recipients: Array(33).fill({ blob: 'AAAA' }) as unknown[] }, 'LIMIT_EXCEEDED'],
    ['too many recipients', { recipients: Array(100_000).fill({ blob: '' }) as unknown[] }, 'LIMIT_EXCEEDED'],
  ])('with %s is refused', (_what, value, code) => {
    expect(() => parsePkcs11Envelope(bytes(value))).toThrow(raises(code));
  });

  test('of any JSON gives nothing but our own error', () => {
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.record({ recipients: fc.jsonValue() })), (value) => {
        try {
          parsePkcs11Envelope(bytes(value));
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
    );
  });
});

const reason = softTokenSkipReason();

describe.skipIf(reason !== '')(`a token${reason}`, () => {
  let directory: string;
  let token: SoftToken;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-token-'));
    token = await createSoftToken(directory);
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  const location = (path = token.path, pin: string | undefined = TOKEN_PIN) => ({
    uri: parsePkcs11Uri(`${path}?module-path=${token.modulePath}`),
    modulePath: token.modulePath,
    moduleEnvironment: token.moduleEnvironment,
    pin,
  });
  const unwrapper = (...where: Parameters<typeof location>) =>
    createPkcs11Unwrapper(createTokenDecryption(location(...where)));
  const wrapped = () => createPkcs11Wrapper([tokenPublicKey], 'sha1').wrap(long);

  test('gives its public key, and opens what is wrapped for it, again and again', async () => {
    expect((await readTokenPublicKey(location())).equals(tokenPublicKey)).toBe(true);
    const open = unwrapper();
    for (let round = 0; round < 3; round += 1) {
      expect(Buffer.from((await open.unwrap(await wrapped()))!)).toEqual(long);
    }
  });

  test('is found by its slot as well', async () => {
    const open = unwrapper(`pkcs11:slot-id=${token.slotId};object=layers`);
    expect(Buffer.from((await open.unwrap(await wrapped()))!)).toEqual(long);
  });

  test('opens one block of several, and none that is for another key', async () => {
    const both = await createPkcs11Wrapper([rsa2048.publicKey, tokenPublicKey], 'sha1').wrap(short);
    expect(Buffer.from((await unwrapper().unwrap(both))!)).toEqual(short);
    const sameSize = generateKeyPairSync('rsa', { modulusLength: 3072 }).publicKey;
    for (const stranger of [rsa2048.publicKey, sameSize]) {
      const element = await createPkcs11Wrapper([stranger], 'sha1').wrap(short);
      expect(await unwrapper().unwrap(element)).toBeNull();
    }
  });

  test.each([
    ['pkcs11:token=other;object=layers', 'KEY_NOT_FOUND', /there is no token "other"/],
    ['pkcs11:slot-id=77;object=layers', 'KEY_NOT_FOUND', /there is no token 77/],
    ['pkcs11:token=acme;object=nothing', 'KEY_NOT_FOUND', /no private key "nothing"/],
    ['pkcs11:token=acme;id=%B2', 'KEY_NOT_FOUND', /no private key with id b2/],
    ['pkcs11:token=acme;serial=1;object=layers', 'KEY_NOT_FOUND', /there is no token/],
  ])('says that it does not have %s', async (path, code, message) => {
    await expect(unwrapper(path).unwrap(await wrapped())).rejects.toThrow(raises(code, message));
  });

  test('does not say a wrong PIN', async () => {
    const failed = unwrapper(token.path, '987654').unwrap(await wrapped());
    await expect(failed).rejects.toThrow(
      raises('KEY_INVALID', /does not accept the PIN \(CKR_PIN_INCORRECT\)/),
    );
    await failed.catch((error: unknown) => {
      const { message, stack, cause } = error as Error;
      expect(`${message}${stack ?? ''}${JSON.stringify(cause)}${(cause as Error).stack ?? ''}`).not.toContain(
        '987654',
      );
    });
  });

  test('leaves the environment as it was', async () => {
    const before = { ...process.env };
    await unwrapper().unwrap(await wrapped());
    expect(process.env).toEqual(before);
  });

  test('needs a module that is one', async () => {
    const bad = createTokenDecryption({ ...location(), modulePath: '/etc/passwd' });
    await expect(createPkcs11Unwrapper(bad).unwrap(await wrapped())).rejects.toThrow(
      raises('KEY_INVALID', /module \/etc\/passwd cannot be loaded/),
    );
  });
});

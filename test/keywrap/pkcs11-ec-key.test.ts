import { createRequire } from 'node:module';
import { diffieHellman, generateKeyPairSync, randomBytes, verify } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import { openByAgreement } from '#src/crypto/open-agreed.ts';
import { agreeOnToken, makeTokenEcKey, readTokenEcKey, signOnToken } from '#src/keywrap/pkcs11-ec-key.ts';
import { type TokenKeyLocation, isPinRefused, withSession } from '#src/keywrap/pkcs11-session.ts';
import { parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import { TOKEN_PIN, createSoftToken, softTokenSkipReason } from '../fakes/soft-token.ts';

const skipReason = softTokenSkipReason();

describe.skipIf(skipReason !== '')(`a P-256 key on a token${skipReason}`, () => {
  let directory: string;
  let located: (path: string, pin?: string) => TokenKeyLocation;
  let location: TokenKeyLocation;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-ec-token-'));
    const { modulePath, moduleEnvironment } = await createSoftToken(directory);
    located = (path, pin = TOKEN_PIN) => ({
      ...{ uri: parsePkcs11Uri(`${path}?module-path=${modulePath}`), modulePath, moduleEnvironment, pin },
    });
    location = located('pkcs11:token=acme;object=node');
    await makeTokenEcKey(location);
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test('is found again, and is not there under another name', async () => {
    const made = await makeTokenEcKey(located('pkcs11:token=acme;object=found'));
    const found = await readTokenEcKey(located('pkcs11:token=acme;object=found'));
    expect(found?.equals(made)).toBe(true);
    expect(await readTokenEcKey(located('pkcs11:token=acme;object=absent'))).toBeUndefined();
  });

  test('signs', async () => {
    const publicKey = (await readTokenEcKey(location))!;
    const signature = await signOnToken(location, Buffer.from('text'));
    expect(signature).toHaveLength(64);
    const key = { key: publicKey, dsaEncoding: 'ieee-p1363' } as const;
    expect(verify('sha256', Buffer.from('text'), key, signature)).toBe(true);
  });

  test('agrees on the same secret as the other side, and with itself', async () => {
    const publicKey = (await readTokenEcKey(location))!;
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const secret = await agreeOnToken(location, other.publicKey);
    expect(secret).toEqual(diffieHellman({ privateKey: other.privateKey, publicKey }));
    expect(await agreeOnToken(location, publicKey)).toEqual(await agreeOnToken(location, publicKey));
  });

  test('opens what jose seals to it', async () => {
    const publicKey = (await readTokenEcKey(location))!;
    const secret = randomBytes(32);
    const envelope = await sealEnvelope(secret, publicKey, 'latchkey-image-key-lease');
    const agree = (key: Parameters<typeof agreeOnToken>[1]) => agreeOnToken(location, key);
    expect(await openByAgreement(envelope, agree, 'latchkey-image-key-lease')).toEqual(secret);
  });

  test('agrees with no key of another curve', async () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    await expect(agreeOnToken(location, publicKey)).rejects.toThrow(TypeError);
  });

  test('never leaves the token', async () => {
    const library = createRequire(import.meta.url)('graphene-pk11') as typeof import('graphene-pk11');
    await readTokenEcKey(location);
    withSession(library, location, (session) => {
      const key = session.find({ class: library.ObjectClass.PRIVATE_KEY, label: 'node' }).items(0);
      const flags = { sensitive: null, extractable: null, neverExtractable: null, alwaysSensitive: null };
      expect(key.getAttribute(flags)).toEqual({
        ...{ sensitive: true, extractable: false, neverExtractable: true, alwaysSensitive: true },
      });
      expect(() => key.getAttribute({ value: null })).toThrow(/CKR_ATTRIBUTE_SENSITIVE/);
    });
  });

  test('is not an RSA key', async () => {
    const refused = { code: 'KEY_INVALID', message: 'the key on the token is not a P-256 key' };
    await expect(readTokenEcKey(located('pkcs11:token=acme;object=layers'))).rejects.toMatchObject(refused);
  });

  test('says that the PIN is wrong, or that the token is away', async () => {
    const wrong = await readTokenEcKey(located('pkcs11:token=acme;object=node', '9999')).catch(
      (error: unknown) => error,
    );
    expect(wrong).toMatchObject({ code: 'KEY_INVALID', message: expect.stringContaining('PIN') as string });
    expect(isPinRefused(wrong)).toBe(true);
    const away = await readTokenEcKey(located('pkcs11:token=gone;object=node')).catch(
      (error: unknown) => error,
    );
    expect(away).toMatchObject({ code: 'KEY_NOT_FOUND', message: 'there is no token "gone"' });
    expect(isPinRefused(away)).toBe(false);
  });
});

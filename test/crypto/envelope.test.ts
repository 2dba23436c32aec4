import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { CompactEncrypt } from 'jose';
import { describe, expect, test } from 'vitest';
import { openEnvelope, sealEnvelope } from '#src/crypto/envelope.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const publicJwk = pair.publicKey.export({ format: 'jwk' });
const IMPORT = 'latchkey-image-key-import';
const failed = expect.objectContaining({ code: 'CRYPTO_AUTHENTICATION_FAILED' }) as unknown;

describe('an envelope', () => {
  test('opens with its key and for its purpose', async () => {
    const secret = randomBytes(32);
    const envelope = await sealEnvelope(secret, publicJwk, IMPORT);
    expect(Buffer.from(await openEnvelope(envelope, pair.privateKey, IMPORT)).equals(secret)).toBe(true);
  });

  test('does not open for another purpose', async () => {
    const envelope = await sealEnvelope(randomBytes(32), publicJwk, IMPORT);
    await expect(openEnvelope(envelope, pair.privateKey, 'latchkey-image-key-lease')).rejects.toEqual(failed);
  });

  test('does not open as the secret of something else', async () => {
    const envelope = await sealEnvelope(randomBytes(32), publicJwk, IMPORT, 'ik-1');
    expect(await openEnvelope(envelope, pair.privateKey, IMPORT, 'ik-1')).toHaveLength(32);
    const unbound = await sealEnvelope(randomBytes(32), publicJwk, IMPORT);
    for (const [sealed, subject] of [
      [envelope, 'ik-2'],
      [envelope, undefined],
      [unbound, 'ik-1'],
    ] as const) {
      await expect(openEnvelope(sealed, pair.privateKey, IMPORT, subject)).rejects.toEqual(failed);
    }
  });

  test('does not open with another key', async () => {
    const envelope = await sealEnvelope(randomBytes(32), publicJwk, IMPORT);
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await expect(openEnvelope(envelope, other.privateKey, IMPORT)).rejects.toEqual(failed);
  });

  test('does not open when a character was changed', async () => {
    const envelope = await sealEnvelope(randomBytes(32), publicJwk, IMPORT);
    const parts = envelope.split('.');
    const changed = parts.with(
      3,
      `${parts[3]?.startsWith('A') === true ? 'B' : 'A'}${parts[3]?.slice(1) ?? ''}`,
    );
    await expect(openEnvelope(changed.join('.'), pair.privateKey, IMPORT)).rejects.toEqual(failed);
  });

  test('of another algorithm is refused', async () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const foreign = await new CompactEncrypt(randomBytes(32))
      .setProtectedHeader({ alg: 'RSA-OAEP', enc: 'A256GCM', typ: IMPORT })
      .encrypt(rsa.publicKey);
    await expect(openEnvelope(foreign, rsa.privateKey, IMPORT)).rejects.toEqual(failed);
  });

  test('that is none is malformed', async () => {
    await expect(openEnvelope('hello', pair.privateKey, IMPORT)).rejects.toEqual(
      expect.objectContaining({ code: 'INPUT_MALFORMED' }),
    );
  });

  test('is not sealed to a key that cannot take it', async () => {
    await expect(sealEnvelope(randomBytes(32), { kty: 'OKP' }, IMPORT)).rejects.toEqual(
      expect.objectContaining({ code: 'KEY_INVALID' }),
    );
  });
});

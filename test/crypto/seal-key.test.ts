import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { compactVerify } from 'jose';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { sealKey } from '#src/crypto/seal-key.ts';
import { signToken } from '#src/crypto/sign-token.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const PURPOSE = 'latchkey-image-key-lease';

describe('sealing a key', () => {
  it('gives an envelope that an independent JOSE library opens', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 64 }), async (key) => {
        const opened = await openEnvelope(sealKey(pair.publicKey, key, PURPOSE), pair.privateKey, PURPOSE);
        expect(Buffer.from(opened)).toEqual(Buffer.from(key));
      }),
      { numRuns: 50 },
    );
  });

  it('is for one purpose and one holder', async () => {
    const sealed = sealKey(pair.publicKey, randomBytes(32), PURPOSE);
    const refused = { code: 'CRYPTO_AUTHENTICATION_FAILED' };
    await expect(openEnvelope(sealed, pair.privateKey, 'latchkey-image-key-import')).rejects.toMatchObject(
      refused,
    );
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await expect(openEnvelope(sealed, other.privateKey, PURPOSE)).rejects.toMatchObject(refused);
  });

  it('refuses a key of another curve', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    expect(() => sealKey(publicKey, randomBytes(32), PURPOSE)).toThrow();
  });

  it('is for one time: the same key to the same holder is another envelope with another ephemeral key', () => {
    const key = randomBytes(32);
    const [first, second] = [0, 1].map(() => sealKey(pair.publicKey, key, PURPOSE).split('.')[0]);
    expect(first).not.toBe(second);
  });
});

describe('signing a token', () => {
  it('gives a token that an independent JOSE library verifies', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const token = signToken('lease+jwt', JSON.stringify({ leaseId: 'lease_a', text: 'ü' }), privateKey);
    const { payload, protectedHeader } = await compactVerify(token, publicKey);
    expect(protectedHeader).toEqual({ alg: 'EdDSA', typ: 'lease+jwt' });
    expect(JSON.parse(Buffer.from(payload).toString())).toEqual({ leaseId: 'lease_a', text: 'ü' });
    const stranger = generateKeyPairSync('ed25519');
    await expect(compactVerify(token, stranger.publicKey)).rejects.toThrow(/signature/);
  });
});

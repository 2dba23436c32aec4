import { type KeyObject, diffieHellman, generateKeyPairSync, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { CompactEncrypt } from 'jose/jwe/compact/encrypt';
import { describe, expect, test } from 'vitest';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import { openByAgreement } from '#src/crypto/open-agreed.ts';
import { sealKey } from '#src/crypto/seal-key.ts';

const PURPOSE = 'latchkey-image-key-lease';
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const secret = randomBytes(32);
const agreements: KeyObject[] = [];
const agree = (ephemeral: KeyObject): Promise<Buffer> => {
  agreements.push(ephemeral);
  return Promise.resolve(diffieHellman({ privateKey, publicKey: ephemeral }));
};
const open = (envelope: string) => openByAgreement(envelope, agree, PURPOSE);

interface Header {
  readonly epk?: Record<string, string> | undefined;
  readonly [name: string]: unknown;
}

function withHeader(envelope: string, change: (header: Header) => Header): string {
  const [header = '', ...rest] = envelope.split('.');
  const changed = change(JSON.parse(Buffer.from(header, 'base64url').toString()) as Header);
  return [Buffer.from(JSON.stringify(changed)).toString('base64url'), ...rest].join('.');
}

/** With another byte in one of the five parts. */
function withChangedPart(envelope: string, index: number): string {
  const parts = envelope.split('.');
  const bytes = Buffer.from(parts[index] ?? '', 'base64url');
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  parts[index] = bytes.toString('base64url');
  return parts.join('.');
}

describe('opening by agreement', () => {
  test('opens what jose and the key server seal', async () => {
    expect(await open(await sealEnvelope(secret, publicKey, PURPOSE))).toEqual(secret);
    expect(await open(sealKey(publicKey, secret, PURPOSE))).toEqual(secret);
  });

  test('refuses another key, another purpose and changed bytes', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
    const refused = { code: 'CRYPTO_AUTHENTICATION_FAILED' };
    await expect(open(await sealEnvelope(secret, other, PURPOSE))).rejects.toMatchObject(refused);
    const elsewhere = await sealEnvelope(secret, publicKey, 'latchkey-image-key-import');
    await expect(open(elsewhere)).rejects.toMatchObject(refused);
    const envelope = await sealEnvelope(secret, publicKey, PURPOSE);
    for (const part of [1, 2, 3, 4])
      await expect(open(withChangedPart(envelope, part))).rejects.toMatchObject(refused);
  });

  test('makes no agreement with a point of another curve, off the curve, or with none', async () => {
    const envelope = await sealEnvelope(secret, publicKey, PURPOSE);
    const before = agreements.length;
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ format: 'jwk' });
    const hostile: ((header: Header) => Header)[] = [
      (header) => ({ ...header, epk: undefined }),
      (header) => ({ ...header, epk: { ...header.epk, kty: 'OKP' } }),
      (header) => ({ ...header, epk: p384 as Record<string, string> }),
      (header) => ({ ...header, epk: { ...(p384 as Record<string, string>), crv: 'P-256' } }),
      (header) => ({ ...header, epk: { ...header.epk, y: header.epk?.['x'] ?? '' } }),
      (header) => ({ ...header, epk: { ...header.epk, x: '', y: '' } }),
      (header) => ({ ...header, epk: { ...header.epk, x: 'AA', y: 'AA' } }),
    ];
    for (const change of hostile) {
      await expect(open(withHeader(envelope, change))).rejects.toMatchObject({
        code: expect.stringMatching(/^(?:INPUT_MALFORMED|CRYPTO_AUTHENTICATION_FAILED)$/) as string,
      });
    }
    expect(agreements).toHaveLength(before);
  });

  test('refuses headers that the key server does not write', async () => {
    const seal = (header: Record<string, unknown>) =>
      new CompactEncrypt(secret)
        .setProtectedHeader({ alg: 'ECDH-ES+A256KW', enc: 'A256GCM', typ: PURPOSE, ...header })
        .encrypt(publicKey);
    const malformed = { code: 'INPUT_MALFORMED' };
    for (const header of [{ alg: 'ECDH-ES' }, { enc: 'A128GCM' }, { sub: 'another key' }, { typ: undefined }])
      await expect(open(await seal(header))).rejects.toMatchObject(malformed);
    const envelope = await seal({});
    for (const extra of [{ zip: 'DEF' }, { crit: ['b64'] }, { apu: 'AA' }, { alg: 'none' }]) {
      const changed = withHeader(envelope, (header) => ({ ...header, ...extra }));
      await expect(open(changed)).rejects.toMatchObject(malformed);
    }
    for (const text of ['', '....', envelope.slice(0, -3), `${envelope}.AA`, 'A'.repeat(10_000)])
      await expect(open(text)).rejects.toMatchObject(malformed);
  });

  test('opens nothing that was changed anywhere', async () => {
    const envelope = await sealEnvelope(secret, publicKey, PURPOSE);
    const changed = fc
      .tuple(fc.nat(envelope.length - 1), fc.constantFrom('A', 'Z', 'a', 'z', '0', '9', '-', '_', '.'))
      .map(([at, character]) => envelope.slice(0, at) + character + envelope.slice(at + 1));
    await fc.assert(
      fc.asyncProperty(changed, async (text) => {
        // The last character of a part may differ in bits that base64 does not use.
        const opened = await open(text).catch(() => undefined);
        if (opened !== undefined) expect(opened).toEqual(secret);
      }),
    );
  });

  test('lets through what the agreement has to say', async () => {
    const envelope = await sealEnvelope(secret, publicKey, PURPOSE);
    const away = new Error('no token');
    await expect(openByAgreement(envelope, () => Promise.reject(away), PURPOSE)).rejects.toBe(away);
  });
});

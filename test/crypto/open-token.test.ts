import { type KeyObject, generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { CompactSign, compactVerify } from 'jose';
import { describe, expect, it } from 'vitest';
import { openToken, tokensOf } from '#src/crypto/open-token.ts';
import { payloadHash, signToken, signTogether } from '#src/crypto/sign-token.ts';

const TYPES = { type: 'thing+jwt', listType: 'thing-list+jwt' };
const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const PAYLOADS = ['{"name":"a"}', '{"name":"ü"}', '{"name":"a"}', '{}'];

const encode = (text: string) => Buffer.from(text).toString('base64url');
const open = async (token: string, key: KeyObject = publicKey) =>
  Buffer.from(await openToken(token, key, TYPES)).toString();

/** Of base64url. */
const ALPHABET = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');
const signatureOf = (token: string) => Buffer.from(token.split('.')[2] ?? '', 'base64url');

/** A list as no key server signs it. */
function signedList(payload: unknown, typ: string = TYPES.listType): Promise<string> {
  return new CompactSign(Buffer.from(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'EdDSA', typ })
    .sign(privateKey);
}

describe('tokens that share a signature', () => {
  it('say each for itself what was signed, in the order in which it was given', async () => {
    const tokens = tokensOf(signTogether(TYPES.listType, PAYLOADS, privateKey));
    expect(await Promise.all(tokens.map((token) => open(token)))).toEqual(PAYLOADS);
  });

  it('have one signature, which an independent JOSE library verifies', async () => {
    const [list = '', ...payloads] = signTogether(TYPES.listType, PAYLOADS, privateKey).split('~');
    const { payload, protectedHeader } = await compactVerify(list, publicKey);
    expect(protectedHeader).toEqual({ alg: 'EdDSA', typ: TYPES.listType });
    expect(payloads).toEqual(PAYLOADS.map(encode));
    expect(JSON.parse(Buffer.from(payload).toString())).toEqual({ payloads: payloads.map(payloadHash) });
  });

  it('are none where nothing was signed', () => {
    expect(tokensOf('')).toEqual([]);
    expect(tokensOf(signTogether(TYPES.listType, [], privateKey))).toEqual([]);
  });

  it('are read whatever they say, and not with a payload of another list (property)', async () => {
    const texts = fc.array(fc.string(), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(texts, texts, async (own, others) => {
        const tokens = tokensOf(signTogether(TYPES.listType, own, privateKey));
        expect(await Promise.all(tokens.map((token) => open(token)))).toEqual(
          own.map((text) => Buffer.from(text).toString()),
        );
        const [list = ''] = (tokens[0] ?? '').split('~');
        for (const other of others.filter((text) => !own.includes(text)))
          await expect(open(`${list}~${encode(other)}`)).rejects.toThrow(/not signed/);
      }),
      { numRuns: 20 },
    );
  });

  it('are refused with any character changed', async () => {
    const token = tokensOf(signTogether(TYPES.listType, PAYLOADS, privateKey))[1] ?? '';
    for (let at = 0; at < token.length; at += 1) {
      const changed = `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`;
      await expect(open(changed), String(at)).rejects.toThrow();
    }
  });

  it.each([
    ['a payload more', (token: string) => `${token}~${encode('{}')}`],
    ['the separator alone behind it', (token: string) => `${token}~`],
    ['no payload', (token: string) => token.slice(0, token.indexOf('~') + 1)],
    ['the list alone', (token: string) => token.slice(0, token.indexOf('~'))],
    [
      'the hash in place of the payload',
      (token: string) => token.replace(/~.*/, (all) => `~${payloadHash(all.slice(1))}`),
    ],
    ['the payload padded', (token: string) => `${token}=`],
  ])('are refused with %s', async (_case, change) => {
    const [token = ''] = tokensOf(signTogether(TYPES.listType, PAYLOADS, privateKey));
    await expect(open(change(token))).rejects.toThrow();
  });

  it('are refused when another key has signed them', async () => {
    const stranger = generateKeyPairSync('ed25519');
    const [token = ''] = tokensOf(signTogether(TYPES.listType, PAYLOADS, stranger.privateKey));
    await expect(open(token)).rejects.toThrow();
    expect(await open(token, stranger.publicKey)).toBe(PAYLOADS[0]);
  });

  it.each([
    ['another type', { payloads: [payloadHash(encode('{}'))] }, 'other-list+jwt'],
    ['the type of what it lists', { payloads: [payloadHash(encode('{}'))] }, TYPES.type],
    ['something more', { payloads: [payloadHash(encode('{}'))], more: 1 }, TYPES.listType],
    ['a text in place of the hashes', { payloads: payloadHash(encode('{}')) }, TYPES.listType],
    ['nothing', {}, TYPES.listType],
  ])('are refused when their list has %s', async (_case, payload, typ) => {
    await expect(open(`${await signedList(payload, typ)}~${encode('{}')}`)).rejects.toThrow();
  });
});

describe('a token with a signature of its own', () => {
  it('is refused in every spelling of its signature but one', async () => {
    const token = signToken(TYPES.type, '{}', privateKey);
    const others = ALPHABET.map((last) => token.slice(0, -1) + last).filter((other) => other !== token);
    const sameBytes = others.filter((other) => signatureOf(other).equals(signatureOf(token)));
    expect(sameBytes).toHaveLength(15);
    for (const other of others) await expect(open(other), other.at(-1)).rejects.toThrow();
  });

  it('says what was signed', async () => {
    expect(await open(signToken(TYPES.type, '{"a":1}', privateKey))).toBe('{"a":1}');
  });

  it('is refused when it is of another type, a list among them', async () => {
    for (const type of ['other+jwt', TYPES.listType])
      await expect(open(signToken(type, '{}', privateKey))).rejects.toThrow(/type/);
  });
});

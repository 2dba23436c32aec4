import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ErrorCode, LatchkeyError } from '#src/base/errors.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import {
  formatWrappedKeys,
  openLayerKey,
  parseWrappedKeys,
  publicOptionsOf,
  schemesOf,
  unwrapLayerKey,
  withoutEncryption,
  wrapLayerKey,
} from '#src/keywrap/annotations.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import { createLatchkeyUnwrapper, createLatchkeyWrapper } from '#src/keywrap/latchkey.ts';
import { LATCHKEY_ANNOTATION } from '#src/keywrap/latchkey-element.ts';
import { digestOf } from '#src/oci/digest.ts';

const owner = { imageKeyId: 'ik-1', organizationId: 'org-1', contact: 'help@acme.example' };
const privateOptions = formatPrivateOptions({
  symmetricKey: randomBytes(32),
  nonce: randomBytes(16),
  plainDigest: digestOf('layer'),
});

describe('a comma list of wrapped keys', () => {
  test('comes back as it was', () => {
    const elements = fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), {
      minLength: 1,
      maxLength: 32,
    });
    fc.assert(
      fc.property(elements, (list) => {
        expect(parseWrappedKeys(formatWrappedKeys(list)).map((bytes) => [...bytes])).toEqual(
          list.map((bytes) => [...bytes]),
        );
      }),
    );
  });

  test.each(['', ',', 'AAAA,', 'AA', 'A-_A', 'AAAA, AAAA', 'AAAA,%%%%', 'AAB='])('%j is refused', (list) => {
    expect(() => parseWrappedKeys(list)).toThrow(expect.objectContaining({ code: 'INPUT_MALFORMED' }));
  });

  test('has a bound on elements and on bytes', () => {
    const exceeded = expect.objectContaining({ code: 'LIMIT_EXCEEDED' }) as unknown;
    const many = Array.from({ length: MAX_WRAPPED_KEYS + 1 }, () => 'AAAA').join(',');
    expect(() => parseWrappedKeys(many)).toThrow(exceeded);
    expect(() => parseWrappedKeys('A'.repeat(MAX_ANNOTATION_BYTES + 4))).toThrow(exceeded);
  });

  test('of any text throws nothing but our own error', () => {
    fc.assert(
      fc.property(fc.string(), (list) => {
        try {
          parseWrappedKeys(list);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
    );
  });
});

describe('the annotations of an encrypted layer', () => {
  test('hold one list per scheme, and open with the right image key only', async () => {
    const key = randomBytes(32);
    const annotations = await wrapLayerKey(privateOptions, { mac: randomBytes(32) }, [
      createLatchkeyWrapper({ ...owner, imageKeyId: 'ik-0' }, randomBytes(32)),
      createLatchkeyWrapper(owner, key),
    ]);
    expect(schemesOf(annotations)).toEqual(['provider.latchkey']);
    expect(annotations[LATCHKEY_ANNOTATION]?.split(',')).toHaveLength(2);
    expect(publicOptionsOf(annotations).mac).toHaveLength(32);
    const opened = await unwrapLayerKey(annotations, [createLatchkeyUnwrapper('ik-1', key)]);
    expect(Buffer.compare(opened!, privateOptions)).toBe(0);
    expect(await unwrapLayerKey(annotations, [createLatchkeyUnwrapper('ik-9', key)])).toBeNull();
    await expect(
      unwrapLayerKey(annotations, [createLatchkeyUnwrapper('ik-1', randomBytes(32))]),
    ).rejects.toThrow(expect.objectContaining({ code: 'CRYPTO_AUTHENTICATION_FAILED' }));
  });

  test('without public options are refused', () => {
    const malformed = expect.objectContaining({ code: 'INPUT_MALFORMED' }) as unknown as Error;
    expect(() => publicOptionsOf(undefined)).toThrow(malformed);
    expect(() => publicOptionsOf({ 'org.opencontainers.image.enc.pubopts': '!' })).toThrow(malformed);
  });

  test('go on decrypt, the others stay', () => {
    expect(withoutEncryption({ 'org.opencontainers.image.enc.pubopts': 'x', mine: 'y' })).toEqual({
      mine: 'y',
    });
    expect(withoutEncryption({ 'org.opencontainers.image.enc.keys.jwe': 'x' })).toBeUndefined();
  });
});

describe('opening with several keys', () => {
  const annotation = (scheme: string) => `org.opencontainers.image.enc.keys.${scheme}`;
  const elements = (...texts: string[]) => formatWrappedKeys(texts.map((text) => Buffer.from(text)));
  /** Opens elements that say `ours`; fails with a code for those that name one. */
  const unwrapper = (scheme: string, seen: string[] = []): KeyUnwrapper => ({
    annotation: annotation(scheme),
    unwrap: async (element) => {
      const text = Buffer.from(element).toString();
      seen.push(text);
      if (text === 'ours') return privateOptions;
      if (text === 'junk') return Buffer.from('no layer key');
      if (text === 'theirs') return null;
      throw new LatchkeyError(text as ErrorCode, `failed: ${text}`);
    },
  });

  test.each([
    ['a damaged element of the same scheme', { b: elements('CRYPTO_AUTHENTICATION_FAILED', 'ours') }],
    ['an element of somebody who wrapped junk', { b: elements('junk', 'ours') }],
    ['a key provider that fails for another element', { b: elements('KEY_PROVIDER_FAILED', 'ours') }],
    ['another scheme that fails', { a: elements('KEY_INVALID'), b: elements('ours') }],
    ['another scheme that is no base64', { a: '!', b: elements('ours') }],
  ])('is not hindered by %s', async (_what, lists) => {
    const annotations = Object.fromEntries(
      Object.entries(lists).map(([scheme, list]) => [annotation(scheme), list]),
    );
    expect(await openLayerKey(annotations, [unwrapper('a'), unwrapper('b')])).toBe(privateOptions);
  });

  test('tells what came of every scheme', async () => {
    const annotations = {
      [annotation('a')]: elements('theirs', 'INPUT_MALFORMED', 'CRYPTO_AUTHENTICATION_FAILED'),
      [annotation('b')]: elements('theirs'),
      [annotation('c')]: elements('ours'),
    };
    expect(await openLayerKey(annotations, [unwrapper('b'), unwrapper('a')])).toEqual([
      { scheme: 'a', outcome: expect.objectContaining({ code: 'INPUT_MALFORMED' }) as unknown },
      { scheme: 'b', outcome: 'not for these keys' },
      { scheme: 'c', outcome: 'no key given' },
    ]);
  });

  test('presents a PIN that was refused only once', async () => {
    const seen: string[] = [];
    const annotations = { [annotation('a')]: elements('KEY_INVALID', 'theirs', 'ours') };
    await expect(unwrapLayerKey(annotations, [unwrapper('a', seen)])).rejects.toThrow(/failed: KEY_INVALID/);
    expect(seen).toEqual(['KEY_INVALID']);
  });

  test('ends at once when interrupted', async () => {
    const annotations = { [annotation('a')]: elements('INTERRUPTED'), [annotation('b')]: elements('ours') };
    await expect(openLayerKey(annotations, [unwrapper('a'), unwrapper('b')])).rejects.toThrow(
      expect.objectContaining({ code: 'INTERRUPTED' }),
    );
  });
});

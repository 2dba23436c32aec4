import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import {
  formatWrappedKeys,
  parseWrappedKeys,
  publicOptionsOf,
  schemesOf,
  unwrapLayerKey,
  withoutEncryption,
  wrapLayerKey,
} from '#src/keywrap/annotations.ts';
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

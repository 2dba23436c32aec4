import { generateKeyPairSync, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import {
  WRAPPED_KEYS_PREFIX,
  formatWrappedKeys,
  unwrapLayerKey,
  wrapLayerKey,
} from '#src/keywrap/annotations.ts';
import {
  licensedElement,
  listElements,
  parseElementName,
  withLicensedElement,
  withMoreElements,
  withoutElements,
} from '#src/keywrap/element-list.ts';
import { JWE_ANNOTATION, createJweUnwrapper, createJweWrapper } from '#src/keywrap/jwe.ts';
import { LATCHKEY_ANNOTATION, parseElement, sealElement } from '#src/keywrap/latchkey-element.ts';
import { digestOf } from '#src/oci/digest.ts';

const pairs = Array.from({ length: 4 }, () => generateKeyPairSync('ec', { namedCurve: 'P-256' }));
const publicKeys = pairs.map(({ publicKey }) => publicKey);
const publicOptions = { mac: randomBytes(32) };
const plainDigest = digestOf('a layer');
const privateOptions = formatPrivateOptions({ ...generateLayerKey(), plainDigest });

const wrapFor = (...recipients: number[]) =>
  wrapLayerKey(privateOptions, publicOptions, [createJweWrapper(recipients.map((at) => publicKeys[at]!))]);
const opens = async (annotations: Readonly<Record<string, string>>, at: number) =>
  (await unwrapLayerKey(annotations, [createJweUnwrapper(pairs[at]!.privateKey)])) !== null;
const names = (annotations: Readonly<Record<string, string>>) =>
  listElements(annotations).map(({ name }) => name);
const without = (annotations: Readonly<Record<string, string>>, ...texts: string[]) =>
  withoutElements(annotations, texts.map(parseElementName));

function licensed(organizationId: string, imageKeyId: string): Uint8Array {
  return sealElement({ imageKeyId, organizationId, plainDigest }, randomBytes(32), privateOptions);
}

describe('the list', () => {
  test('is what was added, and shrinks by what is taken out', async () => {
    const annotations = withMoreElements(await wrapFor(0, 1), await wrapFor(2));
    expect(names(annotations)).toEqual(['jwe#1.1', 'jwe#1.2', 'jwe#2']);
    for (const at of [0, 1, 2]) expect(await opens(annotations, at)).toBe(true);
    const one = without(annotations, 'jwe#1.1');
    expect(names(one)).toEqual(['jwe#1', 'jwe#2']);
    expect(await opens(one, 0)).toBe(false);
    for (const at of [1, 2]) expect(await opens(one, at)).toBe(true);
    expect(without(annotations, 'jwe#1.1', 'jwe#1.2')).toEqual(without(annotations, 'jwe#1'));
    expect(Object.keys(without(annotations, 'jwe#1', 'jwe#2'))).toEqual([
      'org.opencontainers.image.enc.pubopts',
    ]);
  });

  test('drops what peers write beside the recipients: it is the first one’s key', async () => {
    const general = await wrapFor(0, 1);
    const jwe = JSON.parse(Buffer.from(general[JWE_ANNOTATION]!, 'base64').toString()) as {
      recipients: { encrypted_key: string }[];
    };
    const asPeersWrite = { ...jwe, encrypted_key: jwe.recipients[0]!.encrypted_key };
    const list = formatWrappedKeys([Buffer.from(JSON.stringify(asPeersWrite))]);
    const left = without({ ...general, [JWE_ANNOTATION]: list }, 'jwe#1.1');
    const text = Buffer.from(left[JWE_ANNOTATION]!, 'base64').toString();
    expect(text).not.toContain(asPeersWrite.encrypted_key);
    expect(await opens(left, 1)).toBe(true);
  });

  test('keeps what is not named byte for byte', async () => {
    const annotations = withMoreElements(await wrapFor(0), await wrapFor(1));
    const [, second] = annotations[JWE_ANNOTATION]!.split(',');
    expect(without(annotations, 'jwe#1')[JWE_ANNOTATION]).toBe(second);
    expect(without(annotations, 'jwe#7', 'pgp#1')).toEqual(annotations);
  });

  test('does not grow beyond what is read', async () => {
    const one = await wrapFor(0);
    const element = one[JWE_ANNOTATION]!;
    const full = {
      ...one,
      [JWE_ANNOTATION]: Array.from({ length: MAX_WRAPPED_KEYS }, () => element).join(','),
    };
    expect(() => withMoreElements(full, one)).toThrow(LatchkeyError);
  });

  test('does not look inside envelopes of other schemes', () => {
    const annotation = `${WRAPPED_KEYS_PREFIX}pgp`;
    const annotations = { [annotation]: formatWrappedKeys([randomBytes(40)]) };
    expect(names(annotations)).toEqual(['pgp#1']);
    expect(() => without(annotations, 'pgp#1.1')).toThrow('cannot lose single recipients');
  });
});

describe('license holders', () => {
  test('of an organization get one element, those of another keep theirs', () => {
    const [ours, theirs, renewed] = [
      licensed('org-1', 'ik-1'),
      licensed('org-2', 'ik-2'),
      licensed('org-1', 'ik-3'),
    ];
    const annotations = { [LATCHKEY_ANNOTATION]: formatWrappedKeys([ours, theirs]) };
    const changed = withLicensedElement(annotations, 'org-1', renewed);
    expect(listElements(changed).map((element) => element.licensed?.imageKeyId)).toEqual(['ik-2', 'ik-3']);
    expect(parseElement(licensedElement(changed, 'org-1')!).header.imageKeyId).toBe('ik-3');
    expect(licensedElement(changed, 'org-3')).toBeUndefined();
  });
});

describe('hostile input', () => {
  test.each([
    '',
    'jwe',
    'jwe#',
    'jwe#0',
    'jwe#1.0',
    'jwe#-1',
    '#1',
    'jwe#1.2.3',
    'jwe #1',
    'jwe#99999',
    '../x#1',
  ])('the name %j is refused', (text) => {
    expect(() => parseElementName(text)).toThrow(expect.objectContaining({ code: 'USAGE_INVALID' }) as Error);
  });

  test('whatever the annotations are, nothing but a LatchkeyError comes out', () => {
    const element = fc.oneof(
      fc.json().map((text) => Buffer.from(text).toString('base64')),
      fc
        .record({ recipients: fc.array(fc.record({ encrypted_key: fc.string() }), { maxLength: 40 }) })
        .map((jwe) =>
          Buffer.from(JSON.stringify({ iv: '', ciphertext: '', tag: '', ...jwe })).toString('base64'),
        ),
      fc.string(),
    );
    const list = fc.array(element, { maxLength: 4 }).map((elements) => elements.join(','));
    const scheme = fc.constantFrom('jwe', 'pgp', 'provider.latchkey', 'provider.x', '__proto__', '');
    fc.assert(
      fc.property(fc.array(fc.tuple(scheme, list), { maxLength: 3 }), (entries) => {
        const annotations = Object.fromEntries(
          entries.map(([name, value]) => [`${WRAPPED_KEYS_PREFIX}${name}`, value]),
        );
        for (const look of [
          () => listElements(annotations),
          () => without(annotations, 'jwe#1.1', 'pgp#1', 'provider.latchkey#1'),
          () => licensedElement(annotations, 'org-1'),
        ]) {
          try {
            look();
          } catch (error) {
            expect(error).toBeInstanceOf(LatchkeyError);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

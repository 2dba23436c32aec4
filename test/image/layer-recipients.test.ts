import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { recipientsOf } from '#src/image/layer-recipients.ts';
import { WRAPPED_KEYS_PREFIX } from '#src/keywrap/annotations.ts';
import { readVector } from '../fakes/ocicrypt-vector.ts';

const element = (bytes: Uint8Array | string) => Buffer.from(bytes).toString('base64');

describe('what real peers wrote', () => {
  test.each([
    ['skopeo-jwe-rsa', [{ scheme: 'jwe', keys: 1 }]],
    ['skopeo-jwe-several', [{ scheme: 'jwe', keys: 3 }]],
    ['library-jwe-added', [{ scheme: 'jwe' }, { scheme: 'jwe' }, { scheme: 'jwe' }]],
    [
      'skopeo-pkcs7',
      [
        {
          scheme: 'pkcs7',
          keys: 2,
          keyIds: Array(2).fill(expect.stringMatching(/^serial [0-9a-f]+ of CN=.+/)),
        },
      ],
    ],
    [
      'skopeo-pgp',
      [{ scheme: 'pgp', keys: 2, keyIds: Array(2).fill(expect.stringMatching(/^[0-9A-F]{16}$/)) }],
    ],
    ['skopeo-pkcs11-sha256', [{ scheme: 'pkcs11', keys: 1 }]],
  ])('%s tells for whom', async (name, expected) => {
    expect(await recipientsOf(readVector(name).descriptor.annotations)).toMatchObject(expected);
  });
});

test.each([
  ['{"kid":"kbs:///default/key/1","wrapped_data":"AA=="}', ['kbs:///default/key/1']],
  ['{"key_url":"kms://key-2","wrapped_key":"AA=="}', ['kms://key-2']],
  ['{"other":1}', undefined],
  ['[1]', undefined],
  ['opaque', undefined],
])('of a provider’s %s the key is named where it can be read', async (packet, keyIds) => {
  const annotations = { [`${WRAPPED_KEYS_PREFIX}provider.acme`]: element(packet) };
  expect(await recipientsOf(annotations)).toEqual([{ scheme: 'provider.acme', keyIds }]);
});

test('whatever an envelope holds, only our own error comes out', async () => {
  const schemes = fc.constantFrom('jwe', 'pkcs7', 'pgp', 'pkcs11', 'provider.latchkey', 'provider.x');
  const envelopes = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 300 }),
    fc.json().map((text) => Buffer.from(text)),
  );
  await fc.assert(
    fc.asyncProperty(schemes, envelopes, async (scheme, bytes) => {
      try {
        await recipientsOf({ [`${WRAPPED_KEYS_PREFIX}${scheme}`]: element(bytes) });
      } catch (error) {
        expect(error).toBeInstanceOf(LatchkeyError);
      }
    }),
    { numRuns: 300 },
  );
});

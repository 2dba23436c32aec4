import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { Any } from '#src/wire/generated/google/protobuf/any.ts';
import { payloadLayerDigest } from '../../../shim/agent/processor-payload.ts';

const TYPE = 'io.containerd.ocicrypt.v1.Payload';
const DIGEST = digestOf('a layer');

function payload(value: unknown, typeUrl = TYPE): Uint8Array {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return Any.encode({ typeUrl, value: Buffer.from(text) }).finish();
}

/** As imgcrypt writes it. */
const value = {
  DecryptConfig: { Parameters: null },
  Descriptor: {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted',
    digest: DIGEST,
    size: 1000,
    annotations: { 'org.opencontainers.image.enc.pubopts': 'e30=' },
  },
};

describe('a payload', () => {
  test.each([TYPE, `types.containerd.io/${TYPE}`])('of type %s names its layer', (type) => {
    expect(payloadLayerDigest(payload(value, type))).toBe(DIGEST);
  });

  test.each([
    ['another type', payload(value, 'io.containerd.other')],
    ['a type that only ends alike', payload(value, `x${TYPE}`)],
    ['no descriptor', payload({ DecryptConfig: {} })],
    ['no digest', payload({ Descriptor: {} })],
    ['a digest of another kind', payload({ Descriptor: { digest: 'sha512:00' } })],
    ['a number for a digest', payload({ Descriptor: { digest: 7 } })],
    ['a list', payload([value])],
    ['two digests', payload(`{"Descriptor":{"digest":"${DIGEST}","digest":"${digestOf('x')}"}}`)],
    ['no JSON', payload('Descriptor')],
    ['nothing', Buffer.alloc(0)],
  ])('with %s is no hint', (_case, bytes) => {
    expect(payloadLayerDigest(bytes)).toBeUndefined();
  });

  test('of any bytes, or cut, or changed, is read without a failure', () => {
    const good = payload(value);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(payloadLayerDigest(bytes)).toBeUndefined();
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, byte, length) => {
        const bytes = Buffer.from(good);
        bytes[at] = byte;
        const digest = payloadLayerDigest(bytes.subarray(0, length));
        expect(digest === undefined || /^sha256:[0-9a-f]{64}$/.test(digest)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

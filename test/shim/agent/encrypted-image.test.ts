import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_LAYERS, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { PUBLIC_OPTIONS_ANNOTATION } from '#src/keywrap/key-wrapper.ts';
import { LATCHKEY_ANNOTATION } from '#src/keywrap/latchkey-element.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import { digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { imageLayers, parseImageManifest } from '../../../shim/agent/encrypted-image.ts';
import { encryptedImage, imageConfig, imageManifest } from '../../fakes/encrypted-image.ts';

const image = encryptedImage([randomBytes(100), randomBytes(200)]);

function layersOf(manifestBytes: Uint8Array, configBytes: Uint8Array) {
  const manifest = parseImageManifest(manifestBytes);
  return manifest === undefined ? undefined : imageLayers(manifest, configBytes);
}

/** The image's manifest with one layer's annotations changed. */
function annotated(annotations: Readonly<Record<string, unknown>>): Buffer {
  const manifest = JSON.parse(image.manifestBytes.toString()) as { layers: { annotations: unknown }[] };
  manifest.layers[0]!.annotations = { ...image.layers[0]!.annotations, ...annotations };
  return Buffer.from(JSON.stringify(manifest));
}

describe('an image', () => {
  test('joined with its config says which layers are encrypted, and for which key', () => {
    const layers = layersOf(image.manifestBytes, image.configBytes)!;
    expect(layers.map(({ chainId }) => chainId)).toEqual(image.layers.map(({ chainId }) => chainId));
    for (const [index, layer] of layers.entries()) {
      const expected = image.layers[index]!;
      expect(layer).toMatchObject({ digest: expected.digest, diffId: expected.diffId, encrypted: true });
      expect(layer.publicOptions).toBe(expected.annotations[PUBLIC_OPTIONS_ANNOTATION]);
      expect(layer.elements).toMatchObject([{ header: { imageKeyId: 'key-1', organizationId: 'org-1' } }]);
      expect(layer.elements[0]?.encoded).toBe(expected.annotations[LATCHKEY_ANNOTATION]);
    }
  });

  test('without encryption has no keys', () => {
    const bytes = randomBytes(10);
    const layer = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(bytes), size: 10 };
    const config = imageConfig([digestOf(bytes)]);
    expect(layersOf(imageManifest(config, [layer]), config)).toMatchObject([
      { encrypted: false, elements: [], publicOptions: '' },
    ]);
  });

  test('keeps the good elements of an annotation with bad ones, up to the bound', () => {
    const good = image.layers[0]!.annotations[LATCHKEY_ANNOTATION]!;
    const mixed = `,%%%,e30=,${good},${Buffer.from('{"v":2}').toString('base64')}`;
    expect(
      layersOf(annotated({ [LATCHKEY_ANNOTATION]: mixed }), image.configBytes)![0]!.elements,
    ).toHaveLength(1);
    const many = Array(MAX_WRAPPED_KEYS + 5)
      .fill(good)
      .join(',');
    expect(
      layersOf(annotated({ [LATCHKEY_ANNOTATION]: many }), image.configBytes)![0]!.elements,
    ).toHaveLength(MAX_WRAPPED_KEYS);
  });
});

describe('what is not an image', () => {
  test.each([
    ['nothing', ''],
    ['text', 'manifest'],
    ['null', 'null'],
    ['a list', '[]'],
    ['an index', '{"schemaVersion":2,"manifests":[]}'],
    ['no layers', '{"config":{"digest":"sha256:00","size":1}}'],
    ['a config of another digest', '{"config":{"digest":"sha512:00","size":1},"layers":[]}'],
    ['a negative size', `{"config":{"digest":"${digestOf('')}","size":-1},"layers":[]}`],
    ['a size beyond numbers', `{"config":{"digest":"${digestOf('')}","size":1e300},"layers":[]}`],
    ['two configs', `{"config":{"digest":"${digestOf('')}","size":1},"config":{},"layers":[]}`],
    ['deep nesting', '['.repeat(100_000)],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
  ])('%s gives nothing', (_case, text) => {
    expect(parseImageManifest(Buffer.from(text))).toBeUndefined();
  });

  test('a manifest with too many layers, or annotations that are not text', () => {
    const layer = { mediaType: 'x', digest: digestOf('x'), size: 1 };
    const config = imageConfig([]);
    expect(parseImageManifest(imageManifest(config, Array(MAX_LAYERS).fill(layer)))).toBeDefined();
    expect(parseImageManifest(imageManifest(config, Array(MAX_LAYERS + 1).fill(layer)))).toBeUndefined();
    expect(parseImageManifest(annotated({ [LATCHKEY_ANNOTATION]: 7 }))).toBeUndefined();
  });

  test.each([
    ['no diff IDs', '{}'],
    ['too few', JSON.stringify({ rootfs: { diff_ids: [digestOf('x')] } })],
    ['too many', JSON.stringify({ rootfs: { diff_ids: ['a', 'b', 'c'].map(digestOf) } })],
    ['other digests', JSON.stringify({ rootfs: { diff_ids: ['sha256:1', 'sha256:2'] } })],
    ['text', 'config'],
  ])('a config with %s', (_case, config) => {
    expect(layersOf(image.manifestBytes, Buffer.from(config))).toBeUndefined();
  });

  test('any bytes and any JSON are looked at without a failure', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(parseImageManifest(bytes)).toBeUndefined();
      }),
    );
    const digest = fc.constantFrom(digestOf('a'), digestOf('b'), 'sha256:', '', 7, null);
    const annotations = fc.dictionary(
      fc.constantFrom(LATCHKEY_ANNOTATION, PUBLIC_OPTIONS_ANNOTATION, 'other'),
      fc.oneof(
        fc.string(),
        fc.base64String(),
        fc.json().map((json) => Buffer.from(json).toString('base64')),
      ),
    );
    const layer = fc.record(
      { mediaType: fc.string(), digest, size: fc.oneof(fc.nat(), fc.double()), annotations },
      { requiredKeys: ['mediaType', 'digest'] },
    );
    const manifest = fc.record({
      config: fc.record({ digest, size: fc.nat() }),
      layers: fc.oneof(fc.array(layer, { maxLength: 4 }), fc.jsonValue()),
    });
    const config = fc.oneof(
      fc.record({ rootfs: fc.record({ diff_ids: fc.array(digest, { maxLength: 4 }) }) }),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(manifest, config, (one, other) => {
        const layers = layersOf(Buffer.from(JSON.stringify(one)), Buffer.from(JSON.stringify(other)));
        if (layers === undefined) return;
        expect(layers.map(({ chainId }) => chainId)).toEqual(chainIds(layers.map(({ diffId }) => diffId)));
        for (const { elements } of layers) expect(elements).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });
});

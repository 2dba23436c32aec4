import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_ANNOTATION_BYTES, MAX_INDEX_ENTRIES, MAX_LAYERS, MAX_MANIFEST_BYTES } from '#src/base/limits.ts';
import { diffIdsOf, parseConfig } from '#src/oci/config.ts';
import { encodeImageDocument, parseImageDocument, sniffMediaType } from '#src/oci/document.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';

const DIGEST = `sha256:${'c'.repeat(64)}`;
const CONFIG = { mediaType: MEDIA_TYPE.ociConfig, digest: DIGEST, size: 2 };
const LAYER = { mediaType: MEDIA_TYPE.ociLayerGzip, digest: DIGEST, size: 100 };
const MANIFEST = { schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config: CONFIG, layers: [LAYER] };
const INDEX = {
  schemaVersion: 2,
  mediaType: MEDIA_TYPE.ociIndex,
  manifests: [
    {
      mediaType: MEDIA_TYPE.ociManifest,
      digest: DIGEST,
      size: 5,
      platform: { os: 'linux', architecture: 'arm64' },
    },
  ],
};

function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

function withCode(code: string): Error {
  return expect.objectContaining({ code }) as Error;
}

describe('parseImageDocument', () => {
  test('manifests and indexes of both families', () => {
    expect(parseImageDocument(json(MANIFEST), MEDIA_TYPE.ociManifest)).toMatchObject({ kind: 'manifest' });
    expect(parseImageDocument(json(INDEX), MEDIA_TYPE.ociIndex)).toMatchObject({ kind: 'index' });
    const docker = { ...MANIFEST, mediaType: MEDIA_TYPE.dockerManifest };
    expect(parseImageDocument(json(docker), MEDIA_TYPE.dockerManifest)).toMatchObject({ kind: 'manifest' });
    const list = { ...INDEX, mediaType: MEDIA_TYPE.dockerManifestList };
    expect(parseImageDocument(json(list), MEDIA_TYPE.dockerManifestList)).toMatchObject({ kind: 'index' });
  });

  test('what the spec does not name survives a rewrite', () => {
    const source = {
      ...MANIFEST,
      'x-future': { deep: [1, null] },
      layers: [{ ...LAYER, 'x-more': true, annotations: { a: 'b' } }],
    };
    const manifest = parseManifest(json(source));
    const { bytes } = encodeImageDocument({ ...manifest, mediaType: MEDIA_TYPE.ociManifest });
    expect(JSON.parse(Buffer.from(bytes).toString())).toEqual(source);
  });

  test('a missing media type is told by the fields, a null list is empty', () => {
    expect(sniffMediaType(json({ schemaVersion: 2, manifests: null }))).toBe(MEDIA_TYPE.ociIndex);
    expect(sniffMediaType(json({ schemaVersion: 2, config: CONFIG }))).toBe(MEDIA_TYPE.ociManifest);
    expect(parseManifest(json({ ...MANIFEST, layers: null })).layers).toEqual([]);
  });

  test.each([
    ['both at once', { ...MANIFEST, manifests: [] }, MEDIA_TYPE.ociManifest, 'INPUT_MALFORMED'],
    ['an index as manifest', INDEX, MEDIA_TYPE.ociManifest, 'INPUT_MALFORMED'],
    ['a manifest as index', MANIFEST, MEDIA_TYPE.ociIndex, 'INPUT_MALFORMED'],
    [
      'a lying mediaType',
      { ...MANIFEST, mediaType: MEDIA_TYPE.ociIndex },
      MEDIA_TYPE.ociManifest,
      'INPUT_MALFORMED',
    ],
    ['a config', { os: 'linux' }, MEDIA_TYPE.ociManifest, 'INPUT_NOT_AN_IMAGE'],
    ['another media type', MANIFEST, 'text/html', 'INPUT_NOT_AN_IMAGE'],
    ['schema 1 by type', MANIFEST, MEDIA_TYPE.dockerSchema1Signed, 'INPUT_UNSUPPORTED'],
    ['schema 1 by field', { schemaVersion: 1, fsLayers: [] }, MEDIA_TYPE.dockerManifest, 'INPUT_UNSUPPORTED'],
    [
      'a wrong digest',
      { ...MANIFEST, config: { ...CONFIG, digest: 'sha256:1' } },
      MEDIA_TYPE.ociManifest,
      'INPUT_MALFORMED',
    ],
    [
      'a negative size',
      { ...MANIFEST, layers: [{ ...LAYER, size: -1 }] },
      MEDIA_TYPE.ociManifest,
      'INPUT_MALFORMED',
    ],
    [
      'a fraction',
      { ...MANIFEST, layers: [{ ...LAYER, size: 1.5 }] },
      MEDIA_TYPE.ociManifest,
      'INPUT_MALFORMED',
    ],
    [
      'too many layers',
      { ...MANIFEST, layers: Array(MAX_LAYERS + 1).fill(LAYER) },
      MEDIA_TYPE.ociManifest,
      'LIMIT_EXCEEDED',
    ],
    [
      'too many entries',
      { ...INDEX, manifests: Array(MAX_INDEX_ENTRIES + 1).fill(INDEX.manifests[0]) },
      MEDIA_TYPE.ociIndex,
      'LIMIT_EXCEEDED',
    ],
    [
      'a long annotation',
      { ...MANIFEST, annotations: { a: 'é'.repeat(MAX_ANNOTATION_BYTES / 2 + 1) } },
      MEDIA_TYPE.ociManifest,
      'INPUT_MALFORMED',
    ],
    [
      'too many bytes',
      { ...MANIFEST, x: 'x'.repeat(MAX_MANIFEST_BYTES) },
      MEDIA_TYPE.ociManifest,
      'LIMIT_EXCEEDED',
    ],
  ])('%s is refused', (_, document, mediaType, code) => {
    expect(() => parseImageDocument(json(document), mediaType)).toThrow(withCode(code));
  });

  test('a key twice, which two readers could read differently, is refused', () => {
    const text = JSON.stringify(MANIFEST).replace('{"schemaVersion"', '{"layers":[],"schemaVersion"');
    expect(() => parseImageDocument(Buffer.from(text), MEDIA_TYPE.ociManifest)).toThrow(
      withCode('INPUT_MALFORMED'),
    );
  });

  test('the field is named', () => {
    const wrong = { ...MANIFEST, layers: [LAYER, { ...LAYER, size: 'big' }] };
    expect(() => parseManifest(json(wrong))).toThrow(/at layers\.1\.size/);
  });

  test('whatever comes in, only our own error comes out', () => {
    const documents = fc.oneof(
      fc.json().map((text) => Buffer.from(text)),
      fc.uint8Array(),
      fc
        .tuple(
          fc.constantFrom(JSON.stringify(MANIFEST), JSON.stringify(INDEX)),
          fc.nat(400),
          fc.string({ maxLength: 3 }),
        )
        .map(([text, at, noise]) => Buffer.from(text.slice(0, at) + noise + text.slice(at + noise.length))),
    );
    const types = fc.constantFrom(
      MEDIA_TYPE.ociManifest,
      MEDIA_TYPE.ociIndex,
      MEDIA_TYPE.dockerManifest,
      'text/plain',
    );
    fc.assert(
      fc.property(documents, types, (bytes, mediaType) => {
        for (const parse of [() => parseImageDocument(bytes, mediaType), () => parseConfig(bytes)]) {
          try {
            parse();
          } catch (error) {
            expect(error).toBeInstanceOf(LatchkeyError);
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('parseConfig', () => {
  const config = {
    os: 'linux',
    architecture: 'amd64',
    config: { Env: null, Cmd: ['/bin/sh'], Labels: { a: 'b' }, 'x-more': 1 },
    rootfs: { type: 'layers', diff_ids: [DIGEST] },
    history: [{ created_by: 'x', empty_layer: true }],
  };

  test('a config is read whole, and gives a diff ID for each layer', () => {
    const parsed = parseConfig(json(config));
    expect(parsed).toEqual(config);
    expect(diffIdsOf(parsed, parseManifest(json(MANIFEST)))).toEqual([DIGEST]);
  });

  test('a config may count all layers, or only those with files', () => {
    const module = { ...LAYER, mediaType: 'application/vnd.wasm.content.layer.v1+wasm' };
    const manifest = parseManifest(json({ ...MANIFEST, layers: [module, LAYER] }));
    expect(diffIdsOf(parseConfig(json(config)), manifest)).toEqual([undefined, DIGEST]);
    const rootfs = { type: 'layers', diff_ids: [DIGEST, DIGEST] };
    expect(diffIdsOf(parseConfig(json({ ...config, rootfs })), manifest)).toEqual([DIGEST, DIGEST]);
  });

  test('a config that disagrees with its manifest is refused', () => {
    const manifest = parseManifest(json({ ...MANIFEST, layers: [LAYER, LAYER] }));
    expect(() => diffIdsOf(parseConfig(json(config)), manifest)).toThrow(withCode('INPUT_MALFORMED'));
  });

  test.each([
    { ...config, rootfs: { type: 'other', diff_ids: [] } },
    { ...config, rootfs: { type: 'layers', diff_ids: ['md5:1'] } },
    { ...config, os: undefined },
    { ...config, config: { Env: 'A=b' } },
    [],
    null,
  ])('%# is refused', (value) => {
    expect(() => parseConfig(json(value))).toThrow(withCode('INPUT_MALFORMED'));
  });
});

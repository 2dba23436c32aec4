/** Parsers of what comes with an image: documents, annotations, statements. */
import { generateKeyPairSync } from 'node:crypto';
import { parseJson } from '#src/base/json.ts';
import { decodeBase64 } from '#src/crypto/base64.ts';
import { parseDsseEnvelope } from '#src/crypto/dsse.ts';
import { formatPrivateOptions, formatPublicOptions } from '#src/crypto/layer-options.ts';
import { parsePrivateOptions, parsePublicOptions } from '#src/crypto/layer-options.ts';
import { parsePlatform } from '#src/image/platform-selection.ts';
import { openStatement, parseStatement, readStatement, signStatement } from '#src/image/statement.ts';
import { WRAPPED_KEYS_PREFIX, parseWrappedKeys, publicOptionsOf } from '#src/keywrap/annotations.ts';
import { listElements, parseElementName } from '#src/keywrap/element-list.ts';
import { JWE_ANNOTATION, createJweUnwrapper, createJweWrapper, parseJwe } from '#src/keywrap/jwe.ts';
import { PUBLIC_OPTIONS_ANNOTATION } from '#src/keywrap/key-wrapper.ts';
import { createLatchkeyUnwrapper } from '#src/keywrap/latchkey.ts';
import { LATCHKEY_ANNOTATION, parseElement, sealElement } from '#src/keywrap/latchkey-element.ts';
import { recipientsOf } from '#src/image/layer-recipients.ts';
import { annotationsSchema, parseDocument } from '#src/oci/document-schema.ts';
import { parseConfig } from '#src/oci/config.ts';
import { digestOf, parseDigest } from '#src/oci/digest.ts';
import { parseImageDocument, sniffMediaType } from '#src/oci/document.ts';
import { parseIndex } from '#src/oci/index.ts';
import { parseLocation } from '#src/oci/location.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE, compressionOf, parseLayerMediaType } from '#src/oci/media-types.ts';
import { parseReference } from '#src/oci/reference.ts';
import { findInLayout } from '#src/store/layout-index.ts';
import { type HostileParser, bytesParser, json, textParser } from './hostile-parser.ts';

const DIGEST = digestOf('x');
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const IMAGE_KEY = new Uint8Array(32).fill(7);

const privateOptions = formatPrivateOptions({
  symmetricKey: new Uint8Array(32),
  nonce: new Uint8Array(16),
  plainDigest: DIGEST,
  sourceDiffId: DIGEST,
});
const publicOptions = formatPublicOptions({ mac: new Uint8Array(32) });
const header = { imageKeyId: 'ik-1', organizationId: 'org', plainDigest: DIGEST, contact: 'a@b.example' };
const element = sealElement(header, IMAGE_KEY, privateOptions);
const layer = {
  mediaType: `${MEDIA_TYPE.ociLayerGzip}+encrypted`,
  digest: DIGEST,
  size: 10,
  annotations: { [PUBLIC_OPTIONS_ANNOTATION]: Buffer.from(publicOptions).toString('base64'), title: 'x' },
};
const config = { mediaType: MEDIA_TYPE.ociConfig, digest: DIGEST, size: 2 };
const manifest = json({
  schemaVersion: 2,
  mediaType: MEDIA_TYPE.ociManifest,
  artifactType: 'application/x',
  config,
  layers: [layer, layer],
  subject: { ...config, mediaType: MEDIA_TYPE.ociManifest },
  annotations: { a: 'b' },
});
const index = json({
  schemaVersion: 2,
  mediaType: MEDIA_TYPE.ociIndex,
  manifests: [
    {
      mediaType: MEDIA_TYPE.ociManifest,
      digest: DIGEST,
      size: 5,
      platform: { os: 'linux', architecture: 'arm64', variant: 'v8', 'os.features': ['x'] },
      annotations: { 'org.opencontainers.image.ref.name': 'v1' },
    },
  ],
});
const imageConfig = json({
  os: 'linux',
  architecture: 'amd64',
  created: '2026-01-01T00:00:00Z',
  config: { Env: ['A=b'], Entrypoint: null, Cmd: ['/bin/sh'], Labels: { a: 'b' }, User: 'root' },
  rootfs: { type: 'layers', diff_ids: [DIGEST] },
  history: [{ created_by: 'x', empty_layer: true }],
});
const statement = json({
  _type: 'https://in-toto.io/Statement/v1',
  predicateType: 'urn:latchkey:release:v1',
  subject: [{ name: 'root', digest: { sha256: DIGEST.slice('sha256:'.length) } }],
  predicate: {
    productCode: 'p',
    root: { digest: DIGEST, mediaType: MEDIA_TYPE.ociManifest },
    images: [
      {
        platform: { os: 'linux', architecture: 'amd64' },
        manifest: DIGEST,
        config: DIGEST,
        layers: [
          {
            mediaType: layer.mediaType,
            digest: DIGEST,
            sizeBytes: 10,
            diffId: DIGEST,
            isEncrypted: true,
            imageKeyIds: ['ik-1'],
          },
        ],
      },
    ],
  },
});
const envelope = json({
  payloadType: 'application/vnd.in-toto+json',
  payload: Buffer.from(statement).toString('base64'),
  signatures: [{ keyid: 'k', sig: Buffer.alloc(64).toString('base64') }],
});
const jwes = await Promise.all(
  [1, 2].map((count) =>
    createJweWrapper(Array.from({ length: count }, () => publicKey)).wrap(privateOptions),
  ),
);
const signer = generateKeyPairSync('ed25519');
const signed = signStatement(envelope, signer.privateKey);
const list = [element, element].map((one) => Buffer.from(one).toString('base64')).join(',');

/** The annotations of a layer, in which every scheme has something. */
const annotations = json({
  [PUBLIC_OPTIONS_ANNOTATION]: Buffer.from(publicOptions).toString('base64'),
  [LATCHKEY_ANNOTATION]: list,
  [JWE_ANNOTATION]: jwes.map((jwe) => Buffer.from(jwe).toString('base64')).join(','),
  [`${WRAPPED_KEYS_PREFIX}provider.other`]: Buffer.from('{"key_url":"x","kid":"y"}').toString('base64'),
});
const annotationsIn = (bytes: Uint8Array) => parseDocument(annotationsSchema, bytes, 'the annotations');

export const IMAGE_PARSERS: readonly HostileParser[] = [
  bytesParser('src/base/json.ts', 'parseJson', [manifest, privateOptions], (bytes) => parseJson(bytes, 'it')),
  bytesParser('src/oci/document.ts', 'parseImageDocument', [manifest], (bytes) =>
    parseImageDocument(bytes, MEDIA_TYPE.ociManifest),
  ),
  bytesParser('src/oci/document.ts', 'sniffMediaType', [manifest, index], sniffMediaType),
  bytesParser('src/oci/manifest.ts', 'parseManifest', [manifest], parseManifest),
  bytesParser('src/oci/index.ts', 'parseIndex', [index], (bytes) => parseIndex(bytes)),
  bytesParser('src/oci/config.ts', 'parseConfig', [imageConfig], parseConfig),
  bytesParser('src/store/layout-index.ts', 'findInLayout', [index], (bytes) =>
    findInLayout(parseIndex(bytes), 'v1', 'oci:x'),
  ),
  bytesParser('src/crypto/layer-options.ts', 'parsePrivateOptions', [privateOptions], parsePrivateOptions),
  bytesParser('src/crypto/layer-options.ts', 'parsePublicOptions', [publicOptions], parsePublicOptions),
  bytesParser('src/keywrap/latchkey-element.ts', 'parseElement', [element], parseElement),
  bytesParser('src/keywrap/latchkey.ts', 'createLatchkeyUnwrapper', [element], (bytes) =>
    createLatchkeyUnwrapper('ik-1', IMAGE_KEY).unwrap(bytes),
  ),
  bytesParser('src/keywrap/jwe.ts', 'parseJwe', jwes, parseJwe),
  bytesParser(
    'src/keywrap/jwe.ts',
    'createJweUnwrapper',
    jwes,
    (bytes) => createJweUnwrapper(privateKey).unwrap(bytes),
    {
      isSlow: true,
    },
  ),
  bytesParser('src/crypto/dsse.ts', 'parseDsseEnvelope', [envelope], parseDsseEnvelope),
  bytesParser('src/image/statement.ts', 'parseStatement', [statement], parseStatement),
  bytesParser('src/image/statement.ts', 'readStatement', [envelope], readStatement),
  bytesParser('src/image/statement.ts', 'openStatement', [signed], (bytes) =>
    openStatement(bytes, [signer.publicKey]),
  ),
  bytesParser('src/oci/document-schema.ts', 'parseDocument', [annotations], annotationsIn),
  bytesParser('src/image/layer-recipients.ts', 'recipientsOf', [annotations], (bytes) =>
    recipientsOf(annotationsIn(bytes)),
  ),
  bytesParser('src/keywrap/element-list.ts', 'listElements', [], (bytes) =>
    listElements(annotationsIn(bytes)),
  ),
  textParser('src/keywrap/element-list.ts', 'parseElementName', ['jwe#1', 'jwe#1.2'], parseElementName, {
    isTyped: true,
  }),
  textParser('src/keywrap/annotations.ts', 'parseWrappedKeys', [list], parseWrappedKeys),
  textParser(
    'src/keywrap/annotations.ts',
    'publicOptionsOf',
    [Buffer.from(publicOptions).toString('base64')],
    (text) => publicOptionsOf({ [PUBLIC_OPTIONS_ANNOTATION]: text }),
  ),
  textParser('src/crypto/base64.ts', 'decodeBase64', ['AAAA'], (text) => {
    const bytes = decodeBase64(text);
    if (bytes !== undefined && bytes.toString('base64') !== text)
      throw new Error('another spelling was read');
  }),
  textParser('src/oci/digest.ts', 'parseDigest', [DIGEST], parseDigest),
  textParser(
    'src/oci/reference.ts',
    'parseReference',
    ['acme/app', `reg.example:5000/a/b:v1@${DIGEST}`],
    parseReference,
  ),
  textParser(
    'src/oci/location.ts',
    'parseLocation',
    ['docker://acme/app:v1', 'oci:dir:v1', `oci:dir@${DIGEST}`],
    parseLocation,
  ),
  textParser('src/oci/media-types.ts', 'parseLayerMediaType', [layer.mediaType], parseLayerMediaType),
  textParser('src/oci/media-types.ts', 'compressionOf', [layer.mediaType], compressionOf),
  textParser('src/image/platform-selection.ts', 'parsePlatform', ['linux/arm64/v8'], parsePlatform),
];

import { describe, expect, test } from 'vitest';
import {
  compressionOf,
  decryptedMediaType,
  encryptedMediaType,
  isDockerType,
  isEncrypted,
  isIndex,
  isLayer,
  isManifest,
  parseLayerMediaType,
} from '#src/oci/media-types.ts';

const OCI = 'application/vnd.oci.image.layer.v1.tar';
const DOCKER = 'application/vnd.docker.image.rootfs.diff.tar';

describe('layer media types', () => {
  test.each([
    [OCI, 'none', `${OCI}+encrypted`, OCI],
    [`${OCI}+gzip`, 'gzip', `${OCI}+gzip+encrypted`, `${OCI}+gzip`],
    [`${OCI}+zstd`, 'zstd', `${OCI}+zstd+encrypted`, `${OCI}+zstd`],
    [DOCKER, 'none', `${OCI}+encrypted`, OCI],
    [`${DOCKER}.gzip`, 'gzip', `${OCI}+gzip+encrypted`, `${OCI}+gzip`],
    [
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
      'gzip',
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip+encrypted',
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    ],
    [
      'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      'gzip',
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip+encrypted',
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    ],
  ])('%s', (plain, compression, encrypted, decrypted) => {
    expect(isLayer(plain)).toBe(true);
    expect(isEncrypted(plain)).toBe(false);
    expect(compressionOf(plain)).toBe(compression);
    expect(encryptedMediaType(plain)).toBe(encrypted);
    expect(parseLayerMediaType(encrypted)).toMatchObject({ compression, isEncrypted: true });
    expect(decryptedMediaType(encrypted)).toBe(decrypted);
    expect(() => encryptedMediaType(encrypted)).toThrow('encrypted already');
    expect(() => decryptedMediaType(plain)).toThrow('not encrypted');
  });

  test('the Docker type that only one peer writes is read', () => {
    expect(decryptedMediaType(`${DOCKER}.gzip+encrypted`)).toBe(`${OCI}+gzip`);
  });

  test.each([
    '',
    '+encrypted',
    'application/vnd.in-toto+json',
    'application/vnd.oci.image.config.v1+json',
    `${OCI}+lzma`,
    `${OCI}.gzip`,
    `${OCI}+encrypted+encrypted`,
    `${OCI}+encrypted+gzip`,
  ])('%s is no layer', (mediaType) => {
    expect(isLayer(mediaType)).toBe(false);
    expect(() => compressionOf(mediaType)).toThrow('not a layer');
  });

  test('manifests and indexes', () => {
    expect(isManifest('application/vnd.docker.distribution.manifest.v2+json')).toBe(true);
    expect(isIndex('application/vnd.docker.distribution.manifest.list.v2+json')).toBe(true);
    expect(isManifest('application/vnd.docker.distribution.manifest.v1+json')).toBe(false);
    expect(isIndex('application/vnd.oci.image.manifest.v1+json')).toBe(false);
  });

  test('a wasm module is no filesystem, and other blobs carry the suffix too', () => {
    const wasm = 'application/vnd.wasm.content.layer.v1+wasm';
    expect(isLayer(wasm)).toBe(false);
    expect(decryptedMediaType(`${wasm}+encrypted`)).toBe(wasm);
    expect(encryptedMediaType('application/vnd.in-toto+json')).toBe('application/vnd.in-toto+json+encrypted');
    expect(decryptedMediaType('application/vnd.in-toto+json+encrypted')).toBe('application/vnd.in-toto+json');
  });

  test.each([
    [DOCKER, true],
    [`${DOCKER}.gzip+encrypted`, true],
    ['application/vnd.docker.distribution.manifest.list.v2+json', true],
    ['application/vnd.docker.container.image.v1+json', true],
    ['application/vnd.docker.attestation.manifest.v1+json', false],
    [OCI, false],
  ])('%s is Docker’s own: %s', (mediaType, expected) => {
    expect(isDockerType(mediaType)).toBe(expected);
  });
});

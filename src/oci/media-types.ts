/**
 * Media types of the OCI image spec (media-types.md), of Docker's image manifest version 2 schema 2, and the
 * `+encrypted` layer types of ocicrypt (spec/spec.go).
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_MEDIA_TYPE_CHARACTERS } from '#src/base/limits.ts';

export const MEDIA_TYPE = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerManifestList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSchema1Signed: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
} as const;

const DOCKER_DOCUMENTS: ReadonlySet<string> = new Set([
  MEDIA_TYPE.dockerManifest,
  MEDIA_TYPE.dockerManifestList,
  MEDIA_TYPE.dockerConfig,
]);

const ENCRYPTED_SUFFIX = '+encrypted';

export type Compression = 'none' | 'gzip' | 'zstd';

/** What a layer's media type says about its blob. */
export interface LayerMediaType {
  readonly family: 'oci' | 'oci-nondistributable' | 'docker' | 'docker-foreign' | 'wasm';
  /** Compression of the layer itself, below any encryption. */
  readonly compression: Compression;
  readonly isEncrypted: boolean;
}

const OCI_NONDISTRIBUTABLE = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
const DOCKER_FOREIGN = 'application/vnd.docker.image.rootfs.foreign.diff.tar';
const WASM_LAYER = 'application/vnd.wasm.content.layer.v1+wasm';

const PLAIN_LAYERS: ReadonlyMap<string, Omit<LayerMediaType, 'isEncrypted'>> = new Map([
  ...compressionVariants(MEDIA_TYPE.ociLayer, '+', 'oci'),
  ...compressionVariants(OCI_NONDISTRIBUTABLE, '+', 'oci-nondistributable'),
  ...compressionVariants(MEDIA_TYPE.dockerLayer, '.', 'docker'),
  ...compressionVariants(DOCKER_FOREIGN, '.', 'docker-foreign'),
  [WASM_LAYER, { family: 'wasm', compression: 'none' }],
]);

function compressionVariants(
  base: string,
  separator: string,
  family: LayerMediaType['family'],
): [string, Omit<LayerMediaType, 'isEncrypted'>][] {
  return [
    [base, { family, compression: 'none' }],
    [`${base}${separator}gzip`, { family, compression: 'gzip' }],
    [`${base}${separator}zstd`, { family, compression: 'zstd' }],
  ];
}

/** Reads a layer's media type; undefined for anything that is not a layer. */
export function parseLayerMediaType(mediaType: string): LayerMediaType | undefined {
  const encrypted = isEncrypted(mediaType);
  const plain = PLAIN_LAYERS.get(encrypted ? mediaType.slice(0, -ENCRYPTED_SUFFIX.length) : mediaType);
  return plain === undefined ? undefined : { ...plain, isEncrypted: encrypted };
}

/** True for a filesystem layer, plain or encrypted; a wasm module is none. */
export function isLayer(mediaType: string): boolean {
  const layer = parseLayerMediaType(mediaType);
  return layer !== undefined && layer.family !== 'wasm';
}

/** True for the config of a container image, OCI's or Docker's; artifacts have configs of other types. */
export function isImageConfig(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.ociConfig || mediaType === MEDIA_TYPE.dockerConfig;
}

/** True for Docker's manifest, list, config and layer types, which are written as OCI's. */
export function isDockerType(mediaType: string): boolean {
  const family = parseLayerMediaType(mediaType)?.family;
  return family === 'docker' || family === 'docker-foreign' || DOCKER_DOCUMENTS.has(mediaType);
}

/**
 * True for a media type that claims encryption. A claim only: a plain blob under this type unpacks and runs
 * in containerd, so whoever relies on encryption must decrypt.
 */
export function isEncrypted(mediaType: string): boolean {
  return mediaType.endsWith(ENCRYPTED_SUFFIX);
}

/** True for an OCI image index or a Docker manifest list. */
export function isIndex(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.ociIndex || mediaType === MEDIA_TYPE.dockerManifestList;
}

/** True for an OCI image manifest or a Docker schema 2 manifest. */
export function isManifest(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.ociManifest || mediaType === MEDIA_TYPE.dockerManifest;
}

/** True for the manifest types of Docker's retired schema 1, which has no layer descriptors. */
export function isSchema1(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.dockerSchema1 || mediaType === MEDIA_TYPE.dockerSchema1Signed;
}

/**
 * Compression of a layer, below any encryption.
 * @throws LatchkeyError INPUT_UNSUPPORTED when the media type is not a layer's
 */
export function compressionOf(mediaType: string): Compression {
  const layer = parseLayerMediaType(mediaType);
  if (layer !== undefined) return layer.compression;
  throw new LatchkeyError(
    'INPUT_UNSUPPORTED',
    `not a layer media type: ${JSON.stringify(mediaType.slice(0, MAX_MEDIA_TYPE_CHARACTERS))}`,
  );
}

/**
 * The media type of a blob once it is encrypted. Docker layers become OCI layers: Docker manifests cannot
 * carry encryption, and containerd refuses `diff.tar.gzip+encrypted`. Other blobs, such as attestations, get the
 * same suffix.
 * @throws LatchkeyError INPUT_UNSUPPORTED when it is encrypted already
 */
export function encryptedMediaType(mediaType: string): string {
  if (isEncrypted(mediaType)) {
    throw new LatchkeyError('INPUT_UNSUPPORTED', `the layer is encrypted already: ${mediaType}`);
  }
  return `${ociMediaType(mediaType)}${ENCRYPTED_SUFFIX}`;
}

/**
 * The media type of a blob once it is decrypted; of a layer always an OCI one.
 * @throws LatchkeyError INPUT_UNSUPPORTED when it is not encrypted
 */
export function decryptedMediaType(mediaType: string): string {
  if (!isEncrypted(mediaType)) {
    throw new LatchkeyError('INPUT_UNSUPPORTED', `the layer is not encrypted: ${mediaType}`);
  }
  return ociMediaType(mediaType.slice(0, -ENCRYPTED_SUFFIX.length));
}

/** The OCI name of a blob's media type; all but Docker's layer types come back unchanged. */
export function ociMediaType(mediaType: string): string {
  const layer = parseLayerMediaType(mediaType);
  if (layer?.family !== 'docker' && layer?.family !== 'docker-foreign') return mediaType;
  const base = layer.family === 'docker' ? MEDIA_TYPE.ociLayer : OCI_NONDISTRIBUTABLE;
  const compressed = layer.compression === 'none' ? base : `${base}+${layer.compression}`;
  return layer.isEncrypted ? `${compressed}${ENCRYPTED_SUFFIX}` : compressed;
}

/** True for what an index may name without being a manifest or an index that anybody here knows. */
export function isUnknownDocument(mediaType: string | undefined): mediaType is string {
  return mediaType !== undefined && !isManifest(mediaType) && !isIndex(mediaType) && !isSchema1(mediaType);
}

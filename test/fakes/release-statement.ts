/** Release statements for tests: of made-up images, and signed the way the key server does. */
import { type KeyObject, generateKeyPairSync, randomBytes } from 'node:crypto';
import {
  type ReleaseStatement,
  type StatementImage,
  type StatementLayer,
  signStatement,
  statementEnvelope,
} from '#src/image/statement.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE, encryptedMediaType } from '#src/oci/media-types.ts';

export interface SigningKeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

export function signingKeyPair(type: 'ed25519' | 'ec' = 'ed25519'): SigningKeyPair {
  return type === 'ed25519'
    ? generateKeyPairSync('ed25519')
    : generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

export function randomLayer(imageKeyId?: string): StatementLayer {
  const isEncrypted = imageKeyId !== undefined;
  return {
    mediaType: isEncrypted ? encryptedMediaType(MEDIA_TYPE.ociLayerGzip) : MEDIA_TYPE.ociLayerGzip,
    digest: digestOf(randomBytes(16)),
    sizeBytes: 1000,
    diffId: digestOf(randomBytes(16)),
    isEncrypted,
    imageKeyIds: isEncrypted ? [imageKeyId] : [],
  };
}

/** A plain base and two encrypted layers. */
export function randomImage(architecture = 'amd64', imageKeyId = 'ik-1'): StatementImage {
  return {
    platform: { os: 'linux', architecture },
    manifest: digestOf(randomBytes(16)),
    config: digestOf(randomBytes(16)),
    layers: [randomLayer(), randomLayer(imageKeyId), randomLayer(imageKeyId)],
  };
}

export interface StatementOptions {
  readonly productCode?: string;
  readonly organizationId?: string;
  readonly imageKeyId?: string;
}

/** A statement of images; of several, under an index of their own. */
export function statementOf(
  images: readonly StatementImage[],
  options: StatementOptions = {},
): ReleaseStatement {
  const { productCode = 'acme', organizationId = 'org-1', imageKeyId = 'ik-1' } = options;
  const [first] = images;
  if (first === undefined) throw new TypeError('a release has an image');
  const isSingle = images.length === 1;
  const root = isSingle
    ? { digest: first.manifest, mediaType: MEDIA_TYPE.ociManifest }
    : { digest: digestOf(randomBytes(16)), mediaType: MEDIA_TYPE.ociIndex };
  const children = images.map(({ manifest }) => manifest);
  return {
    productCode,
    organizationId,
    imageKeyId,
    sourceDigest: digestOf('the plain image'),
    root,
    manifests: isSingle ? children : [...children, root.digest],
    images,
  };
}

/** The unsigned envelope of a release of one image with this digest, as the admin API takes it. */
export function statementTextFor(manifest: Digest, options: StatementOptions): string {
  const image = { ...randomImage('amd64', options.imageKeyId), manifest };
  return Buffer.from(statementEnvelope(statementOf([image], options))).toString();
}

/** An envelope as JSON, signed by these keys. */
export function signedEnvelope(statement: ReleaseStatement, ...keys: readonly SigningKeyPair[]): Uint8Array {
  return keys.reduce(
    (envelope, { privateKey }) => signStatement(envelope, privateKey),
    statementEnvelope(statement),
  );
}

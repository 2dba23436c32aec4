/** An image with encrypted layers, as `latchkey encrypt` would push it: real ciphers and real annotations. */
import { randomBytes } from 'node:crypto';
import { LayerEncryptor, type LayerKey, generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { formatPrivateOptions, formatPublicOptions } from '#src/crypto/layer-options.ts';
import { PUBLIC_OPTIONS_ANNOTATION } from '#src/keywrap/key-wrapper.ts';
import { LATCHKEY_ANNOTATION, sealElement } from '#src/keywrap/latchkey-element.ts';
import type { ReleaseStatement } from '#src/image/statement.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE, encryptedMediaType } from '#src/oci/media-types.ts';
import { Any } from '#src/wire/generated/google/protobuf/any.ts';
import type { LayerIdentity } from '../../shim/snapshotter/gate.ts';
import { type FakeContentStore, MANIFEST_LABELS } from './content-store.ts';
import { statementOf } from './release-statement.ts';

export interface EncryptedBytes {
  readonly key: LayerKey;
  readonly ciphertext: Buffer;
  readonly mac: Buffer;
}

/** Encrypts in one go. */
export function encryptBytes(plaintext: Uint8Array, key = generateLayerKey()): EncryptedBytes {
  const encryptor = new LayerEncryptor(key);
  const ciphertext = encryptor.update(plaintext);
  return { key, ciphertext, mac: encryptor.finish() };
}

export interface EncryptedLayer {
  readonly digest: Digest;
  readonly ciphertext: Buffer;
  readonly plaintext: Buffer;
  readonly diffId: Digest;
  readonly chainId: Digest;
  readonly mediaType: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface EncryptedImage {
  readonly imageKeyId: string;
  readonly imageKey: Buffer;
  readonly manifestDigest: Digest;
  readonly manifestBytes: Buffer;
  readonly configBytes: Buffer;
  readonly layers: readonly EncryptedLayer[];
}

export interface EncryptedImageOptions {
  readonly imageKeyId?: string;
  readonly imageKey?: Buffer;
  readonly contact?: string;
}

/** An image whose layers are these plaintexts, all encrypted under one image key. */
export function encryptedImage(
  plaintexts: readonly Buffer[],
  options: EncryptedImageOptions = {},
): EncryptedImage {
  const { imageKeyId = 'key-1', imageKey = randomBytes(32), contact = 'license@acme.example' } = options;
  const diffIds = plaintexts.map(digestOf);
  const chains = chainIds(diffIds);
  const layers = plaintexts.map((plaintext, index): EncryptedLayer => {
    const { key, ciphertext, mac } = encryptBytes(plaintext);
    const header = { imageKeyId, organizationId: 'org-1', plainDigest: diffIds[index]!, contact };
    const privateOptions = formatPrivateOptions({ ...key, plainDigest: diffIds[index] });
    return {
      digest: digestOf(ciphertext),
      ciphertext,
      plaintext,
      diffId: diffIds[index]!,
      chainId: chains[index]!,
      mediaType: encryptedMediaType(MEDIA_TYPE.ociLayer),
      annotations: {
        [LATCHKEY_ANNOTATION]: Buffer.from(sealElement(header, imageKey, privateOptions)).toString('base64'),
        [PUBLIC_OPTIONS_ANNOTATION]: Buffer.from(formatPublicOptions({ mac })).toString('base64'),
      },
    };
  });
  const configBytes = imageConfig(diffIds);
  const manifestBytes = imageManifest(
    configBytes,
    layers.map(({ mediaType, digest, ciphertext, annotations }) => ({
      mediaType,
      digest,
      size: ciphertext.length,
      annotations,
    })),
  );
  return {
    imageKeyId,
    imageKey,
    manifestDigest: digestOf(manifestBytes),
    manifestBytes,
    configBytes,
    layers,
  };
}

/** What its vendor signs about the image. */
export function encryptedImageStatement(image: EncryptedImage): ReleaseStatement {
  const { imageKeyId, manifestDigest, configBytes, layers } = image;
  const described = layers.map(({ mediaType, digest, ciphertext, diffId }) => ({
    mediaType,
    digest,
    sizeBytes: ciphertext.length,
    diffId,
    isEncrypted: true,
    imageKeyIds: [imageKeyId],
  }));
  const platform = { os: 'linux', architecture: 'amd64' };
  const config = digestOf(configBytes);
  return statementOf([{ platform, manifest: manifestDigest, config, layers: described }], { imageKeyId });
}

/** A config that names layers by their diff IDs. */
export function imageConfig(diffIds: readonly Digest[]): Buffer {
  const rootfs = { type: 'layers', diff_ids: diffIds };
  return Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs }));
}

/** A manifest over a config and layer descriptors. */
export function imageManifest(configBytes: Uint8Array, layers: readonly object[]): Buffer {
  const config = { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(configBytes), size: configBytes.length };
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config, layers }));
}

/** Puts an image into containerd's content store, as a pull leaves it. */
export function storeEncryptedImage(
  store: FakeContentStore,
  namespace: string,
  { configBytes, manifestBytes, layers }: Pick<EncryptedImage, 'configBytes' | 'manifestBytes' | 'layers'>,
): void {
  store.add(namespace, configBytes);
  for (const { ciphertext } of layers) store.add(namespace, ciphertext);
  store.add(namespace, manifestBytes, MANIFEST_LABELS);
}

/** What the index says of one layer of the image. */
export function layerIdentity(image: EncryptedImage, namespace: string, index = 0): LayerIdentity {
  const layer = image.layers[index]!;
  return {
    layer: {
      namespace,
      digest: layer.digest,
      mediaType: layer.mediaType,
      sizeBytes: layer.ciphertext.length,
      diffId: layer.diffId,
      encrypted: true,
    },
    encryptedIn: [
      {
        imageKeyId: image.imageKeyId,
        imageDigest: image.manifestDigest,
        contact: 'license@acme.example',
        element: layer.annotations[LATCHKEY_ANNOTATION]!,
        publicOptions: layer.annotations[PUBLIC_OPTIONS_ANNOTATION]!,
        blob: { digest: layer.digest, mediaType: layer.mediaType, sizeBytes: layer.ciphertext.length },
      },
    ],
    imageSizeBytes: image.layers.slice(index).reduce((sum, { ciphertext }) => sum + ciphertext.length, 0),
    plainTwin: false,
  };
}

/** The payload that imgcrypt's clients send. */
export function imgcryptPayload(digest: string): Buffer {
  const value = { DecryptConfig: { Parameters: null }, Descriptor: { mediaType: 'x', digest, size: 1 } };
  const any = { typeUrl: 'io.containerd.ocicrypt.v1.Payload', value: Buffer.from(JSON.stringify(value)) };
  return Buffer.from(Any.encode(any).finish());
}

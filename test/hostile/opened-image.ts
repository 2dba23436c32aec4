/** An encrypted image as documents that an attacker changes; closing it sets the digests right. */
import { formatPrivateOptions, formatPublicOptions } from '#src/crypto/layer-options.ts';
import { JWE_ANNOTATION, createJweWrapper } from '#src/keywrap/jwe.ts';
import { PUBLIC_OPTIONS_ANNOTATION } from '#src/keywrap/key-wrapper.ts';
import { digestOf, type Digest } from '#src/oci/digest.ts';
import { encryptBytes } from '../fakes/encrypted-image.ts';
import type { EncryptedFixture } from './encrypted-fixture.ts';

export interface LooseDescriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
  platform?: unknown;
  data?: string;
}

export interface LooseImage {
  readonly manifest: { config: LooseDescriptor; layers: LooseDescriptor[]; annotations?: object };
  config: { rootfs: { diff_ids: string[] }; [field: string]: unknown };
}

/** An image as documents that can be changed. */
export interface OpenedImage {
  readonly index: { manifests: LooseDescriptor[]; annotations?: object } | undefined;
  readonly images: LooseImage[];
  readonly blobs: Map<Digest, Uint8Array>;
}

export function openFixture({ blobs, root }: Pick<EncryptedFixture, 'blobs' | 'root'>): OpenedImage {
  const read = (digest: string): unknown => JSON.parse(Buffer.from(blobs.get(digest as Digest)!).toString());
  const top = read(root) as OpenedImage['index'] & LooseImage['manifest'];
  const index = Array.isArray(top.manifests) ? top : undefined;
  const manifests = index?.manifests.map(({ digest }) => read(digest) as LooseImage['manifest']) ?? [top];
  const images = manifests.map((manifest) => {
    return { manifest, config: read(manifest.config.digest) as LooseImage['config'] };
  });
  return { index, images, blobs: new Map(blobs) };
}

/** Sets digests and sizes right, from the configs up. */
export function closeImage({ index, images, blobs }: OpenedImage): {
  readonly blobs: ReadonlyMap<Digest, Uint8Array>;
  readonly root: Digest;
} {
  const store = (value: unknown): { digest: Digest; size: number } => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    return { digest, size: bytes.length };
  };
  const manifests = images.map(({ manifest, config }) => {
    Object.assign(manifest.config, store(config));
    return store(manifest);
  });
  if (index === undefined) return { blobs, root: manifests[0]!.digest };
  index.manifests.forEach((entry, position) => Object.assign(entry, manifests[position]));
  return { blobs, root: store(index).digest };
}

export function storeBlob(image: OpenedImage, layer: LooseDescriptor, bytes: Uint8Array): void {
  const digest = digestOf(bytes);
  image.blobs.set(digest, bytes);
  Object.assign(layer, { digest, size: bytes.length });
}

/** Encrypts a layer of his own for the recipient, whose public key everybody knows. */
export async function ownLayer(
  publicKey: EncryptedFixture['publicKey'],
  plaintext: Uint8Array,
  claims: Pick<Parameters<typeof formatPrivateOptions>[0], 'plainDigest' | 'sourceDiffId'>,
): Promise<{ readonly ciphertext: Buffer; readonly annotations: Record<string, string> }> {
  const { key, ciphertext, mac } = encryptBytes(plaintext);
  const jwe = await createJweWrapper([publicKey]).wrap(formatPrivateOptions({ ...key, ...claims }));
  return {
    ciphertext,
    annotations: {
      [JWE_ANNOTATION]: Buffer.from(jwe).toString('base64'),
      [PUBLIC_OPTIONS_ANNOTATION]: Buffer.from(formatPublicOptions({ mac })).toString('base64'),
    },
  };
}

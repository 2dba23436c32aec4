/** An index as BuildKit writes it with `--sbom=true --provenance=true`: images, and beside each its attestations. */
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore, ManifestBlob } from '#src/store/blob-store.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';
import { streamOf } from './image.ts';

export const IN_TOTO = 'application/vnd.in-toto+json';

/** Stores a blob. */
export async function storeBlob(store: BlobStore, mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.writeBlob(descriptor, () => streamOf(bytes));
  return descriptor;
}

/** An in-toto statement about a manifest. */
export function statementAbout(image: ManifestBlob, predicateType: string): Buffer {
  return Buffer.from(
    JSON.stringify({
      _type: 'https://in-toto.io/Statement/v0.1',
      predicateType,
      subject: [{ name: 'pkg:docker/web@2.0', digest: { sha256: image.descriptor.digest.slice(7) } }],
      predicate: { packages: ['secret-algorithm'] },
    }),
  );
}

const PREDICATES = ['https://spdx.dev/Document', 'https://slsa.dev/provenance/v0.2'];

/** Stores the attestation manifest of an image, with these documents or with an SBOM and its provenance. */
export async function storeAttestation(
  store: BlobStore,
  image: ManifestBlob,
  documents: readonly Buffer[] = PREDICATES.map((type) => statementAbout(image, type)),
): Promise<ManifestBlob> {
  const layers: Descriptor[] = [];
  for (const [at, bytes] of documents.entries()) {
    const annotations = { 'in-toto.io/predicate-type': PREDICATES[at % PREDICATES.length] ?? '' };
    layers.push({ ...(await storeBlob(store, IN_TOTO, bytes)), annotations });
  }
  const rootfs = { type: 'layers', diff_ids: layers.map(({ digest }) => digest) };
  const config = { architecture: 'unknown', os: 'unknown', config: {}, rootfs };
  const manifest = encodeImageDocument({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    config: await storeBlob(store, MEDIA_TYPE.ociConfig, Buffer.from(JSON.stringify(config))),
    layers,
  });
  await store.writeManifest(manifest, undefined, { isChild: true });
  return manifest;
}

/** The entry that points from the index to an attestation. */
export function attestationEntry(attestation: ManifestBlob, image: ManifestBlob): Descriptor {
  return {
    ...attestation.descriptor,
    annotations: {
      'vnd.docker.reference.digest': image.descriptor.digest,
      'vnd.docker.reference.type': 'attestation-manifest',
    },
    platform: { os: 'unknown', architecture: 'unknown' },
  };
}

export interface AttestedImage {
  readonly index: ManifestBlob;
  readonly images: readonly ManifestBlob[];
  readonly attestations: readonly ManifestBlob[];
}

/** Stores an image for two platforms, each with its attestations, under the tag `v1`. */
export async function storeAttestedImage(
  store: BlobStore,
  documents?: readonly Buffer[],
): Promise<AttestedImage> {
  const images: ManifestBlob[] = [];
  const attestations: ManifestBlob[] = [];
  const entries: Descriptor[] = [];
  for (const architecture of ['amd64', 'arm64']) {
    const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip)];
    const image = await storeRealImage(store, layers, { architecture, isChild: true });
    images.push(image);
    entries.push({ ...image.descriptor, platform: { os: 'linux', architecture } });
    attestations.push(await storeAttestation(store, image, documents));
  }
  images.forEach((image, at) => entries.push(attestationEntry(attestations[at]!, image)));
  const index = encodeImageDocument({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: entries });
  await store.writeManifest(index, 'v1');
  return { index, images, attestations };
}

/** A manifest that refers to another one, as a signature does. */
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobDestination, ManifestBlob } from '#src/store/blob-store.ts';
import { streamOf } from './image.ts';

export interface FakeReferrer {
  readonly manifest: ManifestBlob;
  readonly config: Descriptor;
  readonly layer: Descriptor;
  readonly content: Uint8Array;
}

const EMPTY = Buffer.from('{}');

export function fakeReferrer(subject: Descriptor, artifactType: string, text = 'signed'): FakeReferrer {
  const content = Buffer.from(text);
  const config = { mediaType: MEDIA_TYPE.ociEmpty, digest: digestOf(EMPTY), size: EMPTY.length };
  const layer = { mediaType: 'application/json', digest: digestOf(content), size: content.length };
  const manifest = encodeImageDocument({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    artifactType,
    config,
    layers: [layer],
    subject,
    annotations: { made: text },
  });
  return { manifest, config, layer, content };
}

/** Stores a referrer with its blobs. */
export async function storeReferrer(store: BlobDestination, referrer: FakeReferrer): Promise<void> {
  await store.writeBlob(referrer.config, () => streamOf(EMPTY));
  await store.writeBlob(referrer.layer, () => streamOf(referrer.content));
  await store.writeManifest(referrer.manifest);
}

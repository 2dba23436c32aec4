/** Descriptors that carry their blob in themselves, in the field `data` (OCI image spec, descriptor.md). */
import { type ImageGraph, readImageGraph } from '#src/image/image-graph.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore, ManifestBlob } from '#src/store/blob-store.ts';
import { bytesOf } from '../fakes/image.ts';

type Node = ImageGraph['nodes'][number];

/** Stores the image `v1` once more, with every blob and manifest also inline at every place that names it. */
export async function inlineEverything(store: BlobStore): Promise<ImageGraph> {
  const { nodes, root } = await readImageGraph(store, 'v1');
  const renewed = new Map<Digest, ManifestBlob>();
  const named = (old: Descriptor): Descriptor => {
    const blob = renewed.get(old.digest);
    return blob === undefined ? old : { ...old, ...blob.descriptor, data: base64(blob.bytes) };
  };
  const inline = async (blob: Descriptor): Promise<Descriptor> => ({
    ...blob,
    data: base64(await bytesOf(store.openBlob(blob))),
  });
  const rewrite = async (node: Node): Promise<ManifestBlob> => {
    if (node.kind === 'index') {
      const manifests = node.index.manifests.map(named);
      return encodeImageDocument({ ...node.index, mediaType: MEDIA_TYPE.ociIndex, manifests });
    }
    if (node.kind === 'opaque') return node.blob;
    const { config, layers, subject } = node.manifest;
    return encodeImageDocument({
      ...node.manifest,
      mediaType: MEDIA_TYPE.ociManifest,
      config: await inline(config),
      layers: await Promise.all(layers.map(inline)),
      subject: subject && named(subject),
    });
  };
  for (const node of nodes) {
    const blob = await rewrite(node);
    const { digest } = node.blob.descriptor;
    renewed.set(digest, blob);
    const isRoot = digest === root.descriptor.digest;
    await store.writeManifest(blob, isRoot ? 'v1' : undefined, { isChild: !isRoot });
  }
  return readImageGraph(store, 'v1');
}

/** What the documents of an image carry inline. */
export function inlineBlobs(graph: ImageGraph): Digest[] {
  const descriptors = graph.nodes.flatMap((node) => {
    if (node.kind === 'index') return [...node.index.manifests, node.index.subject];
    if (node.kind === 'opaque') return [];
    return [node.manifest.config, ...node.manifest.layers, node.manifest.subject];
  });
  return descriptors.flatMap((descriptor) =>
    descriptor?.data === undefined ? [] : [digestOf(Buffer.from(descriptor.data, 'base64'))],
  );
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

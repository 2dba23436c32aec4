/**
 * The images that an image was built on, as builders note them in annotations. Their layers are public, and stay plain
 * and shared. Whatever is in doubt is encrypted: a base that cannot be read, or not by everybody, shares nothing.
 */
import { toLatchkeyError } from '#src/base/errors.ts';
import { MAX_BASE_IMAGES } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { isDigest } from '#src/oci/digest.ts';
import { type ImageReference, formatReference, parseReference } from '#src/oci/reference.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import { type ImageGraph, readImageGraph } from './image-graph.ts';
import type { BaseImage } from './layer-selection.ts';

/** OCI image spec, annotations.md. */
const BASE_NAME_ANNOTATION = 'org.opencontainers.image.base.name';
const BASE_DIGEST_ANNOTATION = 'org.opencontainers.image.base.digest';

export interface NotedBase {
  /** As the builder wrote it. */
  readonly name: string;
  /** Pinned to the digest that the builder noted, if it did. */
  readonly reference: ImageReference;
}

/** The bases that manifests, indexes and their entries name, each once; names that are no references are skipped. */
export function notedBases(graph: ImageGraph): NotedBase[] {
  const found = graph.nodes.flatMap((node) => {
    if (node.kind === 'artifact' || node.kind === 'opaque') return [];
    const document = node.kind === 'index' ? node.index : node.manifest;
    return [document.annotations, node.entry?.annotations].flatMap(notedBase);
  });
  const distinct = new Map(found.map((base) => [formatReference(base.reference), base]));
  return [...distinct.values()].slice(0, MAX_BASE_IMAGES);
}

function notedBase(annotations: Descriptor['annotations']): NotedBase[] {
  const name = annotations?.[BASE_NAME_ANNOTATION];
  const digest = annotations?.[BASE_DIGEST_ANNOTATION];
  if (name === undefined) return [];
  try {
    const reference = parseReference(name);
    // The tag may have moved on since the build.
    return [{ name, reference: isDigest(digest) ? { ...reference, digest } : reference }];
  } catch {
    return [];
  }
}

export interface FoundBases {
  readonly bases: readonly BaseImage[];
  /** What became of each noted base, for people. */
  readonly notes: readonly string[];
}

/**
 * Reads the bases that an image notes.
 * @param open gives the store of a reference, for an anonymous reader: what needs a password is not public
 * @throws LatchkeyError INTERRUPTED only; a base that cannot be read is noted and shares nothing
 */
export async function readNotedBases(
  graph: ImageGraph,
  open: (reference: ImageReference) => BlobSource | Promise<BlobSource>,
  options: TransferOptions = {},
): Promise<FoundBases> {
  const bases: BaseImage[] = [];
  const notes: string[] = [];
  for (const { name, reference } of notedBases(graph)) {
    try {
      const base = await readImageGraph(await open(reference), reference.digest ?? reference.tag, options);
      bases.push({ name, graph: base });
      notes.push(`the image says it is built on ${name}: layers shared with it stay plain`);
    } catch (error) {
      if (options.signal?.aborted === true) throw error;
      const { message } = toLatchkeyError(error);
      notes.push(`the base ${name} cannot be read by everybody (${message}): its layers are encrypted too`);
    }
  }
  return { bases, notes };
}

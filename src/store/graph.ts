/** The manifests of an image: one, or an index with all its platforms, however nested. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_GRAPH_MANIFESTS, MAX_INDEX_DEPTH } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { isUnknownDocument } from '#src/oci/media-types.ts';
import { parseImageDocument, type ImageDocument } from '#src/oci/document.ts';
import type { BlobSource, ManifestBlob, TransferOptions } from './blob-store.ts';

/** What an index names by a type that we do not know: passed on as it is (OCI image spec, image-index.md "manifests"). */
export interface OpaqueDocument {
  readonly kind: 'opaque';
}

export interface GraphNode {
  readonly manifest: ManifestBlob;
  readonly document: ImageDocument | OpaqueDocument;
  /** The entry of the index above that names it, with its platform; undefined for the root. */
  readonly entry: Descriptor | undefined;
  /** 0 for the root. */
  readonly depth: number;
}

export interface WalkOptions extends TransferOptions {
  /** False for an entry of an index that is passed over unread; all are read when left out. */
  readonly isWanted?: ((entry: Descriptor, siblings: readonly Descriptor[]) => boolean) | undefined;
}

/**
 * Walks from a manifest or index down; children come before the index that names them, each manifest once.
 * @throws LatchkeyError LIMIT_EXCEEDED, INPUT_MALFORMED when an entry and its document disagree, and what
 *   reading and parsing raise
 */
export async function* walkGraph(
  source: BlobSource,
  root: ManifestBlob,
  options: WalkOptions = {},
): AsyncGenerator<GraphNode, void, undefined> {
  const visited = new Set<Digest>();

  async function* visit(
    manifest: ManifestBlob,
    entry: Descriptor | undefined,
    depth: number,
  ): AsyncGenerator<GraphNode, void, undefined> {
    visited.add(manifest.descriptor.digest);
    if (visited.size > MAX_GRAPH_MANIFESTS) {
      throw new LatchkeyError('LIMIT_EXCEEDED', `the image has more than ${MAX_GRAPH_MANIFESTS} manifests`);
    }
    const { mediaType } = manifest.descriptor;
    if (entry !== undefined && isUnknownDocument(mediaType)) {
      yield { manifest, document: { kind: 'opaque' }, entry, depth };
      return;
    }
    const document = parseImageDocument(manifest.bytes, mediaType);
    if (document.kind === 'index') {
      if (depth >= MAX_INDEX_DEPTH) {
        throw new LatchkeyError('LIMIT_EXCEEDED', `image indexes are nested deeper than ${MAX_INDEX_DEPTH}`);
      }
      for (const child of document.index.manifests) {
        if (visited.has(child.digest)) continue;
        if (options.isWanted?.(child, document.index.manifests) === false) continue;
        yield* visit(await readChild(source, child, options), child, depth + 1);
      }
    }
    yield { manifest, document, entry, depth };
  }

  yield* visit(root, undefined, 0);
}

async function readChild(
  source: BlobSource,
  entry: Descriptor,
  options: TransferOptions,
): Promise<ManifestBlob> {
  const manifest = await source.readManifest(entry.digest, { ...options, mediaType: entry.mediaType });
  const { descriptor } = manifest;
  if (descriptor.size !== entry.size || descriptor.mediaType !== entry.mediaType) {
    throw new LatchkeyError(
      'INPUT_MALFORMED',
      `${source.location}: the index describes ${entry.digest} as ${entry.mediaType} of ${entry.size} bytes, ` +
        `but it is ${descriptor.mediaType} of ${descriptor.size}`,
    );
  }
  return manifest;
}

/**
 * Artifacts that name an image as their subject without being part of it, such as SBOMs that were attached after the
 * build (OCI image spec, manifest.md "subject"). Attestations among them are treated like those inside; what else is
 * attached, such as a signature of the very digest, would say nothing about another image and stays where it is.
 */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import {
  MAX_ATTACHED_ATTESTATIONS,
  MAX_ATTACHED_DOCUMENT_BYTES,
  MAX_GRAPH_BYTES,
  MAX_REFERRER_LOOKUPS,
} from '#src/base/limits.ts';
import { openLayerKey } from '#src/keywrap/annotations.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { parseImageDocument } from '#src/oci/document.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import { describeArtifact } from './attestations.ts';
import type { ArtifactNode, ImageGraph } from './image-graph.ts';
import { isStatementManifest } from './statement-referrer.ts';

export interface AttachedArtifacts {
  readonly attestations: readonly ArtifactNode[];
  /** What stays with the image. */
  readonly others: readonly Descriptor[];
}

/**
 * Asks the source what refers to the image and its platforms from outside. Whoever can push can attach: nothing of it
 * is trusted, and what cannot be read counts among the others.
 * @throws LatchkeyError LIMIT_EXCEEDED, INTERRUPTED, and what the source raises
 */
export async function readAttachedArtifacts(
  graph: ImageGraph,
  options: TransferOptions = {},
): Promise<AttachedArtifacts> {
  const inside = new Set(graph.nodes.map(({ blob }) => blob.descriptor.digest));
  const subjects = graph.nodes
    .filter(({ kind }) => kind === 'image' || kind === 'index')
    .slice(-MAX_REFERRER_LOOKUPS);
  const lists = await Promise.all(
    subjects.map(({ blob }) => graph.source.listReferrers(blob.descriptor.digest, undefined, options)),
  );
  const outside = new Map(lists.flat().map((referrer) => [referrer.digest, referrer]));
  const attestations: ArtifactNode[] = [];
  const others: Descriptor[] = [];
  let sizeBytes = 0;
  for (const referrer of outside.values()) {
    if (inside.has(referrer.digest)) continue;
    const node = await readAttestation(graph, referrer.digest, inside, options);
    if (node === 'release statement') continue;
    if (node === undefined) {
      others.push(referrer);
      continue;
    }
    attestations.push(node);
    sizeBytes += node.blob.bytes.length;
    if (attestations.length > MAX_ATTACHED_ATTESTATIONS || sizeBytes > MAX_GRAPH_BYTES) {
      throw new LatchkeyError(
        'LIMIT_EXCEEDED',
        `more than ${MAX_ATTACHED_ATTESTATIONS} attestations, or ${MAX_GRAPH_BYTES} bytes of them, are attached to the image`,
        { hint: 'remove those that nobody needs, or encrypt a copy without them' },
      );
    }
  }
  return { attestations, others };
}

async function readAttestation(
  { source }: ImageGraph,
  digest: Digest,
  inside: ReadonlySet<Digest>,
  options: TransferOptions,
): Promise<ArtifactNode | 'release statement' | undefined> {
  try {
    const blob = await source.readManifest(digest, options);
    const document = parseImageDocument(blob.bytes, blob.descriptor.mediaType);
    if (document.kind === 'index') return undefined;
    const { manifest } = document;
    // A list of referrers is only a claim.
    if (manifest.subject === undefined || !inside.has(manifest.subject.digest)) return undefined;
    // The statement of another release speaks of that one alone.
    if (isStatementManifest(manifest)) return 'release statement';
    const node: ArtifactNode = { kind: 'artifact', blob, entry: undefined, manifest, isAttached: true };
    return describeArtifact(node).isAttestation ? node : undefined;
  } catch (error) {
    if (options.signal?.aborted === true) throw toLatchkeyError(error);
    if (error instanceof LatchkeyError && /^(?:INPUT|LIMIT|STATE_NOT_FOUND)/.test(error.code))
      return undefined;
    throw error;
  }
}

/** The image with these attestations among its artifacts; its root is the last node as before. */
export function withAttached(graph: ImageGraph, attestations: readonly ArtifactNode[]): ImageGraph {
  return { ...graph, nodes: [...graph.nodes.slice(0, -1), ...attestations, ...graph.nodes.slice(-1)] };
}

/** Those whose documents are all encrypted, each for one of these keys, and no larger than documents are. */
export async function openableAttestations(
  attestations: readonly ArtifactNode[],
  unwrappers: readonly KeyUnwrapper[],
): Promise<ArtifactNode[]> {
  const openable: ArtifactNode[] = [];
  for (const node of attestations) {
    if (!describeArtifact(node).isEncrypted) continue;
    const sizeBytes = node.manifest.layers.reduce((sum, { size }) => sum + size, 0);
    if (sizeBytes > MAX_ATTACHED_DOCUMENT_BYTES) continue;
    const outcomes = await Promise.all(
      node.manifest.layers.map(({ annotations }) =>
        openLayerKey(annotations, unwrappers).catch(() => undefined),
      ),
    );
    if (outcomes.every((outcome) => outcome instanceof Uint8Array)) openable.push(node);
  }
  return openable;
}

/** What is said about artifacts that stay with the image; nothing when there are none. */
export function leftBehindNotes(artifacts: readonly Pick<Descriptor, 'artifactType'>[]): string[] {
  if (artifacts.length === 0) return [];
  const types = [...new Set(artifacts.map(({ artifactType }) => artifactType ?? 'of no type'))];
  return [`attached to the image, and left with it: ${types.join(', ')}`];
}

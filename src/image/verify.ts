/**
 * Verifies an image against the signed statement of its release, without asking any server but the one that has the
 * image: the signature, then every manifest, config and layer descriptor, and on request every byte of every layer.
 */
import type { KeyObject } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import { throwIfAborted } from '#src/store/verified-stream.ts';
import { describeGraph } from './describe-image.ts';
import type { ImageGraph } from './image-graph.ts';
import { type Alteration, imageAlterations, releaseAlterations } from './statement-match.ts';
import { readAttachedStatements } from './statement-referrer.ts';
import { type ReleaseStatement, type StatementImage, openStatement } from './statement.ts';

export interface VerifyOptions extends TransferOptions {
  /** Any of them must have signed the statement. */
  readonly publicKeys: readonly KeyObject[];
  /** The envelope; without it, the one attached to the image that a key verifies. */
  readonly envelope?: Uint8Array | undefined;
  /** True when the image was named by its digest, so that one platform of a release may be meant. */
  readonly isPinned?: boolean | undefined;
  /** True reads and hashes every layer too. */
  readonly readsBlobs: boolean;
  /** A layer begins to be read. */
  readonly onBlob?: ((sizeBytes: number, number: number, total: number) => void) | undefined;
}

export interface VerifiedImage {
  readonly statement: ReleaseStatement;
  /** The key that signed it. */
  readonly key: KeyObject;
  /** The platforms that were compared: all of the release, or the one whose manifest was named. */
  readonly images: readonly StatementImage[];
  readonly isWholeRelease: boolean;
  /** Layers whose bytes were read. */
  readonly blobCount: number;
}

/** How many alterations a message lists; one is bad enough, a hundred help nobody. */
const MAX_LISTED_ALTERATIONS = 5;

/**
 * Verifies an image that was read.
 * @throws LatchkeyError STATE_NOT_FOUND without a statement, CRYPTO_AUTHENTICATION_FAILED when no key signed it,
 *   INPUT_STATEMENT_MISMATCH, INPUT_DIGEST_MISMATCH and INPUT_TRUNCATED (blobs), and what reading raises
 */
export async function verifyImage(graph: ImageGraph, options: VerifyOptions): Promise<VerifiedImage> {
  const { statement, key } =
    options.envelope === undefined
      ? await attachedStatement(graph, options)
      : openStatement(options.envelope, options.publicKeys);
  const found = describeGraph(graph);
  const [onlyImage] = found.images;
  // Somebody may have pinned the manifest of one platform.
  const isPart = found.root.digest === onlyImage?.manifest && statement.root.digest !== onlyImage.manifest;
  const alterations = isPart ? imageAlterations(statement, onlyImage) : releaseAlterations(statement, found);
  if (alterations.length > 0) throw mismatch(graph, alterations);
  if (isPart && options.isPinned !== true) throw notWhole(graph);
  const blobCount = options.readsBlobs ? await readBlobs(graph, options) : 0;
  return { statement, key, images: found.images, isWholeRelease: !isPart, blobCount };
}

async function attachedStatement(
  graph: ImageGraph,
  options: VerifyOptions,
): Promise<Pick<VerifiedImage, 'statement' | 'key'>> {
  const { digest } = graph.root.descriptor;
  const envelopes = await readAttachedStatements(graph.source, digest, { signal: options.signal });
  if (envelopes.length === 0) {
    throw new LatchkeyError(
      'STATE_NOT_FOUND',
      `no statement is attached to ${graph.source.location}@${digest}`,
      {
        hint: 'name the image as its vendor published it, with all platforms, or give the statement with --statement FILE',
      },
    );
  }
  const signed = envelopes.flatMap((envelope) => {
    try {
      return [openStatement(envelope, options.publicKeys)];
    } catch (error) {
      // Anybody who can push can attach a statement; those that this key did not sign say nothing.
      if (error instanceof LatchkeyError) return [];
      throw error;
    }
  });
  // So can anybody attach a true one of another release.
  const found = signed.find(({ statement }) => statement.manifests.includes(digest)) ?? signed[0];
  if (found !== undefined) return found;
  const count = envelopes.length === 1 ? 'the statement' : `any of the ${envelopes.length} statements`;
  throw new LatchkeyError(
    'CRYPTO_AUTHENTICATION_FAILED',
    `the key has not signed ${count} attached to ${graph.source.location}@${digest}`,
    { hint: 'is it the right key? the vendor prints it with `latchkey organization release-key`' },
  );
}

/** A tag of a release names all of it; one that names a part may have been turned to the wrong one. */
function notWhole(graph: ImageGraph): LatchkeyError {
  return new LatchkeyError(
    'INPUT_STATEMENT_MISMATCH',
    `${graph.source.location} is not what was released: the tag names the manifest of one platform`,
    { hint: `to verify that platform alone, name it by its digest, ${graph.root.descriptor.digest}` },
  );
}

function mismatch(graph: ImageGraph, alterations: readonly Alteration[]): LatchkeyError {
  const listed = alterations.slice(0, MAX_LISTED_ALTERATIONS).map(({ text }) => text);
  const more = alterations.length - listed.length;
  return new LatchkeyError(
    'INPUT_STATEMENT_MISMATCH',
    `${graph.source.location} is not what was released: ${listed.join('; ')}${more > 0 ? `; and ${more} more` : ''}`,
    { hint: 'do not use it; get it again from its vendor' },
  );
}

/** Each blob once: the store checks length and digest while it flows. */
async function readBlobs({ source, nodes }: ImageGraph, options: VerifyOptions): Promise<number> {
  const layers = nodes.flatMap((node) =>
    node.kind === 'index' || node.kind === 'opaque' ? [] : node.manifest.layers,
  );
  // Layers with URLs live elsewhere, under their digest.
  const own = layers.filter(({ urls }) => urls === undefined || urls.length === 0);
  const blobs = [...new Map(own.map((layer) => [layer.digest, layer])).values()];
  for (const [index, blob] of blobs.entries()) {
    options.onBlob?.(blob.size, index + 1, blobs.length);
    for await (const chunk of source.openBlob(blob, { signal: options.signal })) {
      throwIfAborted(options.signal);
      options.onBytes?.(chunk.length);
    }
  }
  return blobs.length;
}

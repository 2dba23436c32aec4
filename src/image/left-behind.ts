/**
 * Artifacts that name the plain image as their subject but are no part of it, such as SBOMs and signatures attached
 * after the build. They stay with the plain image, and who encrypts is told so.
 */
import { toLatchkeyError } from '#src/base/errors.ts';
import { MAX_REFERRER_LOOKUPS } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import type { ImageGraph } from './image-graph.ts';

/**
 * Asks the source what refers to the image and its platforms.
 * @returns notes for people; none when nothing refers to it, or the source cannot tell
 * @throws LatchkeyError INTERRUPTED
 */
export async function leftBehindNotes(graph: ImageGraph, options: TransferOptions = {}): Promise<string[]> {
  const inside = new Set(graph.nodes.map(({ blob }) => blob.descriptor.digest));
  const subjects = graph.nodes.filter(({ kind }) => kind !== 'artifact').slice(-MAX_REFERRER_LOOKUPS);
  try {
    const lists = await Promise.all(
      subjects.map(({ blob }) => graph.source.listReferrers(blob.descriptor.digest, undefined, options)),
    );
    const outside = lists.flat().filter(({ digest }) => !inside.has(digest));
    return outside.length === 0 ? [] : [leftBehindNote(outside)];
  } catch (error) {
    if (options.signal?.aborted === true) throw toLatchkeyError(error);
    return [];
  }
}

function leftBehindNote(referrers: readonly Descriptor[]): string {
  const types = [...new Set(referrers.map(({ artifactType }) => artifactType ?? 'of no type'))];
  return `attached to the plain image, and left with it: ${types.join(', ')}`;
}

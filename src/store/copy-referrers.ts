/** Copies what refers to an image, such as its signatures and its release statement, after the image itself. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_GRAPH_MANIFESTS, MAX_INDEX_DEPTH } from '#src/base/limits.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { BlobSource, BlobStore } from './blob-store.ts';
import { copyImage, type CopyOptions } from './copy.ts';

/**
 * Copies the referrers of manifests, and theirs in turn, up to {@link MAX_INDEX_DEPTH} steps away.
 * @param subjects digests of the manifests that were copied
 * @returns the digests of all referrers there are
 * @throws LatchkeyError LIMIT_EXCEEDED, and what the stores raise
 */
export async function copyReferrers(
  source: BlobSource,
  destination: BlobStore,
  subjects: readonly Digest[],
  options: Pick<CopyOptions, 'signal' | 'onBytes' | 'onEvent'> = {},
): Promise<readonly Digest[]> {
  const known = new Set(subjects);
  const copied: Digest[] = [];
  let level: readonly Digest[] = subjects;
  for (let depth = 0; depth < MAX_INDEX_DEPTH && level.length > 0; depth += 1) {
    const next: Digest[] = [];
    for (const subject of level) {
      const referrers = await source.listReferrers(subject, undefined, options);
      if (referrers.length === 0) continue;
      const listed = await destination.listReferrers(subject, undefined, options);
      const present = new Set(listed.map(({ digest }) => digest));
      for (const { digest } of referrers) {
        if (known.has(digest)) continue;
        known.add(digest);
        if (known.size > MAX_GRAPH_MANIFESTS) throw tooMany(source);
        if (!present.has(digest)) await copyImage(source, destination, { ...options, reference: digest });
        copied.push(digest);
        next.push(digest);
      }
    }
    level = next;
  }
  return copied;
}

function tooMany(source: BlobSource): LatchkeyError {
  return new LatchkeyError(
    'LIMIT_EXCEEDED',
    `${source.location}: image and referrers are more than ${MAX_GRAPH_MANIFESTS} manifests`,
  );
}

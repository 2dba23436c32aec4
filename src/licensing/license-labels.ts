/** What the vendor notes on a license for his own books. No decision looks at it and no node is told of it. Pure. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_METADATA_BYTES, MAX_METADATA_ENTRIES } from '#src/base/limits.ts';

export type Metadata = Readonly<Record<string, string>>;

/** Null takes an entry away. */
export type MetadataChange = Readonly<Record<string, string | null>>;

/** True when metadata is small enough to be kept. */
export function isMetadataWithinLimits(metadata: Metadata): boolean {
  return (
    Object.keys(metadata).length <= MAX_METADATA_ENTRIES &&
    Buffer.byteLength(JSON.stringify(metadata)) <= MAX_METADATA_BYTES
  );
}

/**
 * Gives metadata with some entries set and others taken away; the rest stays.
 * @param change null takes all away
 * @throws LatchkeyError USAGE_INVALID when it gets too large
 */
export function changeMetadata(before: Metadata, change: MetadataChange | null): Metadata {
  if (change === null) return {};
  const entries = Object.entries({ ...before, ...change });
  const after = Object.fromEntries(entries.filter((entry): entry is [string, string] => entry[1] !== null));
  if (isMetadataWithinLimits(after)) return after;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `the license would have more than ${MAX_METADATA_ENTRIES} entries or ${MAX_METADATA_BYTES} bytes of metadata`,
    { hint: 'take entries away, or keep the bulk in your own books under the id of the license' },
  );
}

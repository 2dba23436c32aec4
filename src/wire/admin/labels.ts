/** Tags and metadata in the admin API: what a vendor notes on licenses for his own books. */
import * as z from 'zod';
import {
  MAX_METADATA_BYTES,
  MAX_METADATA_ENTRIES,
  MAX_METADATA_VALUE_CHARACTERS,
  MAX_TAGS,
} from '#src/base/limits.ts';
import { isMetadataWithinLimits } from '#src/licensing/license-labels.ts';
import { text } from './field.ts';

/** Lists are filtered by it, and it stands in commands, so it is short and plain. */
export const tag = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._:/-]{0,62}$/,
    'lower-case letters, digits, dots, dashes, underscores, colons and slashes, at most 63',
  );

export const tags = z.array(tag).max(MAX_TAGS);

/** Begins so that it is no name that JavaScript objects have anyway. */
export const metadataKey = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}$/,
    'letters, digits, dots, dashes, underscores, colons and slashes, at most 63',
  );

export const metadataValue = text.min(1).max(MAX_METADATA_VALUE_CHARACTERS);

/** May tell of people; the audit log has none of it, and nodes are not told. */
export const metadata = z
  .record(metadataKey, metadataValue)
  .refine(isMetadataWithinLimits, `more than ${MAX_METADATA_ENTRIES} entries or ${MAX_METADATA_BYTES} bytes`);

/** All old entries away and as many new ones. */
const MAX_CHANGED_ENTRIES = 2 * MAX_METADATA_ENTRIES;

/** What is not named stays; null takes an entry away. */
export const metadataChange = z
  .record(metadataKey, metadataValue.nullable())
  .refine((change) => Object.keys(change).length <= MAX_CHANGED_ENTRIES, 'too many entries');

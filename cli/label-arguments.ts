/** Tags and metadata as people write them on a command line; checked here, so that the message fits the command. */
import { InvalidArgumentError } from 'commander';
import { MAX_METADATA_ENTRIES, MAX_METADATA_VALUE_CHARACTERS, MAX_TAGS } from '#src/base/limits.ts';
import type { Metadata, MetadataChange } from '#src/licensing/license-labels.ts';
import { metadataKey, metadataValue, tag } from '#src/wire/admin/labels.ts';

/** Reads one tag. */
export function parseTag(text: string): string {
  if (tag.safeParse(text).success) return text;
  throw new InvalidArgumentError(
    'Give lower-case letters, digits, dots, dashes, underscores, colons and slashes, at most 63: region:eu.',
  );
}

/** Reads one more tag of a repeatable option. */
export function parseTags(text: string, before: readonly string[] | false = []): readonly string[] {
  const tags = before === false ? [] : before;
  if (tags.length >= MAX_TAGS) throw new InvalidArgumentError(`Give at most ${MAX_TAGS} of them.`);
  return [...tags, parseTag(text)];
}

/** Reads one more entry `key=value` of a repeatable option; without a value it is to go. */
export function parseMetadata(text: string, before: MetadataChange | false = {}): MetadataChange {
  const separator = text.indexOf('=');
  const key = text.slice(0, Math.max(separator, 0));
  if (!metadataKey.safeParse(key).success) {
    throw new InvalidArgumentError(
      'Give KEY=VALUE, the key of letters, digits, dots, dashes, underscores, colons and slashes, at most 63: order=4711.',
    );
  }
  const value = text.slice(separator + 1);
  if (value !== '' && !metadataValue.safeParse(value).success) {
    throw new InvalidArgumentError(`Give a value of at most ${MAX_METADATA_VALUE_CHARACTERS} characters.`);
  }
  const entries = { ...(before === false ? {} : before), [key]: value === '' ? null : value };
  if (Object.keys(entries).length <= MAX_METADATA_ENTRIES) return entries;
  throw new InvalidArgumentError(`Give at most ${MAX_METADATA_ENTRIES} of them.`);
}

/** Reads one more entry `key=value` where there is none yet that could go. */
export function parseNewMetadata(text: string, before: Metadata = {}): Metadata {
  const entries = Object.entries(parseMetadata(text, before));
  if (entries.every((entry): entry is [string, string] => entry[1] !== null)) {
    return Object.fromEntries(entries);
  }
  throw new InvalidArgumentError('Give a value after the equals sign: order=4711.');
}

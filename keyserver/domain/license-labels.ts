/** Tags and metadata of licenses as rows and columns. */
import { sql } from 'kysely';
import type { Metadata } from '#src/licensing/license-labels.ts';
import type { Reader, Writer } from '../db/store.ts';
import { fromCodeColumn, toCodeColumn } from './code-list.ts';

/** The tags of the license in a query, as one column; `normalTags` makes its order that of `toCodeColumn`. */
export function tagsOfLicense(reader: Reader) {
  return reader
    .selectFrom('license_tag')
    .select(sql<string | null>`string_agg(license_tag.tag, ' ')`.as('tags'))
    .where('license_tag.license_id', '=', sql.ref<string>('license.id'))
    .as('tags');
}

export function normalTags(column: string | null): string | null {
  return toCodeColumn(fromCodeColumn(column));
}

/** Writes the tags of a license in place of those that it has. */
export async function replaceTags(writer: Writer, licenseId: string, tags: readonly string[]): Promise<void> {
  await writer.deleteFrom('license_tag').where('license_id', '=', licenseId).execute();
  const rows = [...new Set(tags)].map((tag) => ({ license_id: licenseId, tag }));
  if (rows.length > 0) await writer.insertInto('license_tag').values(rows).execute();
}

/** Null = none. Equal metadata gives equal text. */
export function toMetadataColumn(metadata: Metadata): string | null {
  const entries = Object.entries(metadata).sort(([left], [right]) => (left < right ? -1 : 1));
  return entries.length === 0 ? null : JSON.stringify(Object.fromEntries(entries));
}

export function fromMetadataColumn(column: string | null): Metadata {
  return column === null ? {} : (JSON.parse(column) as Metadata);
}

/**
 * The rows of all tables as lines of JSON, the same for every database: of each table its name and columns, then an array of
 * values for each row, and at the end how many rows there were. Bytes are `{"bytes": BASE64}`.
 */
import { type RawBuilder, sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { decodeBase64, encodeBase64 } from '#src/crypto/base64.ts';
import type { Reader } from '../db/store.ts';
import { TABLE_KEYS } from '../db/table-keys.ts';
import { BACKUP_ROWS_AT_ONCE } from '../limits.ts';

export type Value = string | number | null | Uint8Array;
type Row = Readonly<Record<string, Value>>;

export type TableLine =
  | { readonly kind: 'table'; readonly table: string; readonly columns: readonly string[] }
  | { readonly kind: 'row'; readonly values: readonly Value[] }
  | { readonly kind: 'end'; readonly rows: number };

/** Everything in a database. */
export async function* tableLines(reader: Reader): AsyncGenerator<string, void, undefined> {
  let count = 0;
  for (const [table, key] of Object.entries(TABLE_KEYS)) {
    let columns: readonly string[] | null = null;
    for await (const rows of pagesOf(reader, table, key)) {
      if (columns === null) {
        columns = Object.keys(rows[0] ?? {});
        yield `${JSON.stringify({ table, columns })}\n`;
      }
      const names = columns;
      yield rows.map((row) => `${JSON.stringify(names.map((name) => encoded(row[name])))}\n`).join('');
      count += rows.length;
    }
  }
  yield `${JSON.stringify({ rows: count })}\n`;
}

/** By the primary key, so that a page costs the same wherever it is. */
async function* pagesOf(
  reader: Reader,
  table: string,
  key: readonly string[],
): AsyncGenerator<readonly Row[], void, undefined> {
  const columns = sql.join(key.map((name) => sql.ref(name)));
  let after: RawBuilder<unknown> = sql``;
  for (;;) {
    const { rows } = await sql<Row>`
      select * from ${sql.table(table)} ${after} order by ${columns} limit ${sql.lit(BACKUP_ROWS_AT_ONCE)}
    `.execute(reader);
    if (rows.length > 0) yield rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < BACKUP_ROWS_AT_ONCE) return;
    after = sql`where (${columns}) > (${sql.join(key.map((name) => last[name]))})`;
  }
}

function encoded(value: Value | undefined): unknown {
  return value instanceof Uint8Array ? { bytes: encodeBase64(value) } : (value ?? null);
}

/**
 * Reads a line that was sealed by a key server.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function parseTableLine(line: string): TableLine {
  const value = JSON.parse(line) as unknown;
  if (Array.isArray(value)) return { kind: 'row', values: value.map(decoded) };
  if (typeof value === 'object' && value !== null) {
    const { table, columns, rows } = value as Readonly<Record<string, unknown>>;
    if (typeof rows === 'number') return { kind: 'end', rows };
    if (typeof table === 'string' && isTexts(columns)) return { kind: 'table', table, columns };
  }
  throw strange();
}

function decoded(value: unknown): Value {
  if (value === null || typeof value === 'string' || typeof value === 'number') return value;
  const bytes = (value as { readonly bytes?: unknown }).bytes;
  const decodedBytes = typeof bytes === 'string' ? decodeBase64(bytes) : undefined;
  if (decodedBytes === undefined) throw strange();
  return decodedBytes;
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function strange(): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', 'the backup holds what this version does not understand', {
    hint: 'restore it with the version of Latchkey that has made it',
  });
}

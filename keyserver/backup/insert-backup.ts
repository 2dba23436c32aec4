/** Puts the lines of a backup into an empty database, in the caller's transaction. */
import { sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Writer } from '../db/store.ts';
import { TABLE_KEYS } from '../db/table-keys.ts';
import { BACKUP_ROWS_AT_ONCE } from '../limits.ts';
import type { TableLine, Value } from './table-lines.ts';

/** Rows of each table. */
export type RowCounts = Readonly<Record<string, number>>;

interface Table {
  readonly table: string;
  readonly columns: readonly string[];
}

/**
 * Counts the rows of a backup, which is whole then.
 * @throws LatchkeyError INPUT_MALFORMED, and what reading it throws
 */
export async function countRows(lines: AsyncIterable<TableLine>): Promise<RowCounts> {
  return forEachPage(lines, () => Promise.resolve());
}

/** @throws LatchkeyError INPUT_MALFORMED, and what reading the backup or writing the database throws */
export async function insertRows(writer: Writer, lines: AsyncIterable<TableLine>): Promise<RowCounts> {
  return forEachPage(lines, async ({ table, columns }, rows) => {
    const values = rows.map((row) => sql`(${sql.join(row)})`);
    await sql`
      insert into ${sql.table(table)} (${sql.join(columns.map((name) => sql.ref(name)))}) values ${sql.join(values)}
    `.execute(writer);
  });
}

async function forEachPage(
  lines: AsyncIterable<TableLine>,
  take: (table: Table, rows: readonly (readonly Value[])[]) => Promise<void>,
): Promise<RowCounts> {
  const counts: Record<string, number> = {};
  let table: Table | null = null;
  let rows: (readonly Value[])[] = [];
  let promised: number | null = null;
  const flush = async () => {
    if (table === null || rows.length === 0) return;
    counts[table.table] = (counts[table.table] ?? 0) + rows.length;
    await take(table, rows);
    rows = [];
  };
  for await (const line of lines) {
    if (line.kind === 'row') {
      if (table?.columns.length !== line.values.length) throw strange();
      rows.push(line.values);
      if (rows.length >= BACKUP_ROWS_AT_ONCE) await flush();
      continue;
    }
    await flush();
    if (line.kind === 'end') promised = line.rows;
    else if (Object.hasOwn(TABLE_KEYS, line.table)) table = line;
    else throw strange();
  }
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  if (promised !== total) throw strange();
  return counts;
}

function strange(): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', 'the backup holds other rows than it says', {
    hint: 'restore it with the version of Latchkey that has made it',
  });
}

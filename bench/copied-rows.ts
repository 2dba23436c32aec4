/** Fills tables of a stopped key server's SQLite database with copies of a row, by SQL: a million in seconds. */
import { DatabaseSync } from 'node:sqlite';

export interface Copies {
  readonly table: string;
  readonly count: number;
  /** SQL that finds the row to copy. */
  readonly where: string;
  /** SQL of the columns in which the copies differ; `n` counts them from 1. */
  readonly columns: Readonly<Record<string, string>>;
}

/** Adds the copies, in one transaction. */
export function copyRows(databasePath: string, copies: readonly Copies[]): void {
  const database = new DatabaseSync(databasePath);
  database.exec('PRAGMA synchronous = OFF; BEGIN');
  for (const copy of copies) database.exec(statementOf(database, copy));
  database.exec('COMMIT');
  database.close();
}

function statementOf(database: DatabaseSync, { table, count, where, columns }: Copies): string {
  const names = database
    .prepare(`select name from pragma_table_info('${table}')`)
    .all()
    .map(({ name }) => String(name));
  const quoted = names.map((name) => `"${name}"`).join(', ');
  const values = names.map((name) => columns[name] ?? `"${name}"`).join(', ');
  return (
    `with recursive series(n) as (select 1 union all select n + 1 from series where n < ${count}) ` +
    `insert into "${table}" (${quoted}) select ${values} from (select * from "${table}" where ${where} limit 1), series`
  );
}

/**
 * Queries of the paths that run for every start. Building and compiling one costs ten times what the database needs for
 * it (measured), so it is done once; from run to run only the values differ.
 */
import type { Compilable, CompiledQuery, DialectAdapter, InsertResult, Insertable } from 'kysely';
import { execute } from './open-transaction.ts';
import type { Database } from './schema.ts';
import type { Reader, Writer } from './store.ts';

/** Stands for a value until the query runs. */
class Placeholder {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** A query that was computed from a value would be the one of its first run for ever. */
  [Symbol.toPrimitive](): never {
    throw new TypeError(`the value of ${this.name} is not known when the query is built`);
  }
}

/**
 * Gives a query as a function of its values.
 * @param build called once for each database and each set of values that are null: it may look whether one is, and else
 * only pass it on
 */
export function preparedQuery<Values extends object, Row>(
  build: (reader: Reader, values: Values) => Compilable<Row>,
): (reader: Reader, values: Values) => Promise<Row[]> {
  const queries = new CompiledQueries<Row>();
  return async (reader, values) => {
    const query = queries.get(reader, shapeOf(values), () => build(reader, placeholdersOf(values)));
    const parameters = query.parameters.map((value) =>
      value instanceof Placeholder ? values[value.name as keyof Values] : value,
    );
    const { rows } = await execute<Row>(reader, { ...query, parameters });
    return rows;
  };
}

/**
 * Gives a query about a set of texts, at least one, as a function.
 * @param build as above; it may get one of them several times
 */
export function preparedSetQuery<Row>(
  build: (reader: Reader, texts: string[]) => Compilable<Row>,
): (reader: Reader, texts: readonly string[]) => Promise<Row[]> {
  const query = preparedQuery((reader, texts: Readonly<Record<string, string>>) =>
    build(reader, Object.values(texts)),
  );
  return (reader, texts) => {
    // Filled up, so that there are as many queries as powers of two.
    const filled = [...texts];
    while ((filled.length & (filled.length - 1)) !== 0) filled.push(filled[0] ?? '');
    return query(reader, Object.fromEntries(filled.entries()));
  };
}

/** Gives the insertion of a row as a function. */
export function preparedInsert<Table extends keyof Database>(
  table: Table,
): (writer: Writer, row: Insertable<Database[Table]>) => Promise<void> {
  const insert = preparedInsertAll(table);
  return (writer, row) => insert(writer, [row]);
}

/** Gives the insertion of rows that have the same columns as a function. */
export function preparedInsertAll<Table extends keyof Database>(
  table: Table,
): (writer: Writer, rows: readonly Insertable<Database[Table]>[]) => Promise<void> {
  const queries = new CompiledQueries<InsertResult>();
  return async (writer, rows) => {
    const columns = Object.keys(rows[0] ?? {}) as (keyof Insertable<Database[Table]> & string)[];
    if (rows.some((row) => Object.keys(row).length !== columns.length))
      throw new TypeError(`rows of ${table} differ in their columns`);
    for (let from = 0, size: number; from < rows.length; from += size) {
      // As many queries as powers of two, whatever numbers of rows there are.
      size = 2 ** Math.floor(Math.log2(rows.length - from));
      const query = queries.get(writer, `${size} ${columns.join(' ')}`, () => {
        const row = placeholdersOf(rows[0] ?? {}, true) as Insertable<Database[Table]>;
        return writer.insertInto(table).values(Array.from({ length: size }, () => row));
      });
      const parameters = rows.slice(from, from + size).flatMap((row) => columns.map((column) => row[column]));
      await execute(writer, { ...query, parameters });
    }
  };
}

/** By database, and by what else its text depends on. */
class CompiledQueries<Row> {
  readonly #queries = new WeakMap<DialectAdapter, Map<string, CompiledQuery<Row>>>();

  get(reader: Reader, shape: string, build: () => Compilable<Row>): CompiledQuery<Row> {
    const { adapter } = reader.getExecutor();
    const queries = this.#queries.get(adapter) ?? new Map<string, CompiledQuery<Row>>();
    this.#queries.set(adapter, queries);
    const query = queries.get(shape) ?? build().compile();
    queries.set(shape, query);
    return query;
  }
}

/** Which values there are, and which of them are null. */
function shapeOf(values: object): string {
  let shape = '';
  for (const [name, value] of Object.entries(values)) shape += value === null ? `${name}? ` : `${name} `;
  return shape;
}

function placeholdersOf<Values extends object>(values: Values, ofNulls = false): Values {
  const entries = Object.entries(values);
  return Object.fromEntries(
    entries.map(([name, value]) => [name, value === null && !ofNulls ? null : new Placeholder(name)]),
  ) as Values;
}

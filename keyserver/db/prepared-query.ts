/**
 * Queries of the paths that run for every start. Building and compiling one costs ten times what the database needs for
 * it (measured), so it is done once; from run to run only the values differ.
 */
import type { Compilable, CompiledQuery, DialectAdapter, Insertable } from 'kysely';
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
  const compiled = new WeakMap<DialectAdapter, Map<string, CompiledQuery<Row>>>();
  return async (reader, values) => {
    const { adapter } = reader.getExecutor();
    const queries = compiled.get(adapter) ?? new Map<string, CompiledQuery<Row>>();
    compiled.set(adapter, queries);
    const shape = shapeOf(values);
    const query = queries.get(shape) ?? build(reader, placeholdersOf(values)).compile();
    queries.set(shape, query);
    const parameters = query.parameters.map((value) =>
      value instanceof Placeholder ? values[value.name as keyof Values] : value,
    );
    const { rows } = await reader.executeQuery<Row>({ ...query, parameters });
    return rows;
  };
}

/** Gives the insertion of a row as a function. */
export function preparedInsert<Table extends keyof Database>(
  table: Table,
): (writer: Writer, row: Insertable<Database[Table]>) => Promise<void> {
  const insert = preparedQuery((writer, row: Insertable<Database[Table]>) =>
    writer.insertInto(table).values(row),
  );
  return async (writer, row) => {
    await insert(writer, row);
  };
}

/** Which values there are, and which of them are null. */
function shapeOf(values: object): string {
  let shape = '';
  for (const [name, value] of Object.entries(values)) shape += value === null ? `${name}? ` : `${name} `;
  return shape;
}

function placeholdersOf<Values extends object>(values: Values): Values {
  const entries = Object.entries(values);
  return Object.fromEntries(
    entries.map(([name, value]) => [name, value === null ? null : new Placeholder(name)]),
  ) as Values;
}

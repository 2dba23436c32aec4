/**
 * A write transaction while it is open: its connection, and what has been found out in it. Kysely asks for the connection
 * anew for each query, which costs more than most queries of a start on SQLite (measured); what is prepared goes to it
 * directly.
 */
import type { CompiledQuery, DatabaseConnection, QueryResult } from 'kysely';
import { isAfterFailure } from './postgres-error.ts';
import type { Reader, Writer } from './store.ts';

interface OpenTransaction {
  readonly connection: DatabaseConnection;
  /** Another one after a part of the transaction was taken back. */
  state: object;
}

const open = new WeakMap<Reader, OpenTransaction>();

/** Runs the work of a transaction that has begun. */
export async function inOpenTransaction(writer: Writer, work: () => Promise<void>): Promise<void> {
  await writer.getExecutor().provideConnection((connection) => {
    open.set(writer, { connection, state: {} });
    return Promise.resolve();
  });
  try {
    await work();
  } finally {
    open.delete(writer);
  }
}

/** Call it once a part of the transaction was taken back: what was found out in it may be wrong now. */
export function forgetValues(writer: Writer): void {
  const transaction = open.get(writer);
  if (transaction !== undefined) transaction.state = {};
}

/** Runs a query, on the shortest way there is. */
export function execute<Row>(reader: Reader, query: CompiledQuery<Row>): Promise<QueryResult<Row>> {
  return open.get(reader)?.connection.executeQuery<Row>(query) ?? reader.executeQuery<Row>(query);
}

/**
 * Waits for steps of a transaction that do not wait for each other, so that PostgreSQL gets them in one go. None is under way
 * any more when it gives their results, or throws what the first to fail has thrown.
 */
export async function together<Steps extends readonly Promise<unknown>[]>(
  ...steps: Steps
): Promise<{ -readonly [Index in keyof Steps]: Awaited<Steps[Index]> }> {
  let failure: { readonly error: unknown } | undefined;
  const settled = steps.map((step) =>
    step.catch((error: unknown) => {
      // PostgreSQL refuses all that comes after the one that failed, and may be heard to do so before.
      if (failure === undefined || isAfterFailure(failure.error)) failure = { error };
    }),
  );
  await Promise.all(settled);
  if (failure !== undefined) throw failure.error;
  return Promise.all(steps);
}

/** What nobody but the transaction itself changes while it is open, so that it need not be read twice. */
export class TransactionValue<Value> {
  readonly #values = new WeakMap<object, Value>();

  get(writer: Writer): Value | undefined {
    const transaction = open.get(writer);
    return transaction && this.#values.get(transaction.state);
  }

  set(writer: Writer, value: Value): void {
    const transaction = open.get(writer);
    if (transaction !== undefined) this.#values.set(transaction.state, value);
  }
}

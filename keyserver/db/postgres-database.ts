/**
 * pg behind the small interface that kysely's PostgreSQL dialect asks for. Numbers come back as numbers, schemas
 * written for SQLite get the types that fit, and every failure comes back as the error that says it.
 */
import {
  type DataTypeNode,
  type Kysely,
  PostgresDialect,
  type PostgresPoolClient,
  PostgresQueryCompiler,
  sql,
} from 'kysely';
import { type CustomTypesConfig, type PoolClient, types } from 'pg';
import { SECOND_MS } from '#src/base/units.ts';
import {
  DATABASE_CONNECT_TIMEOUT_MS,
  DATABASE_IDLE_TRANSACTION_TIMEOUT_MS,
  DATABASE_STATEMENT_TIMEOUT_MS,
  DATABASE_ANSWER_TIMEOUT_MS,
  MAX_DATABASE_CONNECTIONS,
  MAX_PREPARED_STATEMENTS,
  MAX_SNAPSHOT_PAUSE_MS,
  PROGRAM_CONNECT_TIMEOUT_MS,
  PROGRAM_STATEMENT_TIMEOUT_MS,
} from '../limits.ts';
import { hostUrls } from '../database-url.ts';
import { fromPostgresError, unknownOutcome, unreplicated } from './postgres-error.ts';
import { type ClusterHistory, PostgresHosts } from './postgres-hosts.ts';
import type { Database } from './schema.ts';

/** SQLSTATE of warnings that have none of their own. */
const WARNING = '01000';

const NUMBERS: readonly number[] = [types.builtins.INT8, types.builtins.NUMERIC];

/** Our integers are counters and epoch milliseconds, far below 2^53; a larger one is an error, not a rounding. */
function toNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new TypeError('the database holds a number that is too large');
  return value;
}

const RESULT_TYPES: CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    NUMBERS.includes(oid)
      ? toNumber
      : (types.getTypeParser(oid, format ?? 'text') as unknown)) as CustomTypesConfig['getTypeParser'],
};

/** How long PostgreSQL may take. */
export interface PostgresPatience {
  /** To let somebody in. */
  readonly connectMs: number;
  /** Of one statement; 0 = as long as it takes. */
  readonly statementMs: number;
  /** Until an answer is there; a little longer, for PostgreSQL may be gone. */
  readonly answerMs: number;
}

export const SERVING: PostgresPatience = {
  connectMs: DATABASE_CONNECT_TIMEOUT_MS,
  statementMs: DATABASE_STATEMENT_TIMEOUT_MS,
  answerMs: DATABASE_ANSWER_TIMEOUT_MS,
};

/** Of a program that runs once, and for which nobody waits but who has called it. */
export const RUN_ONCE: PostgresPatience = {
  connectMs: PROGRAM_CONNECT_TIMEOUT_MS,
  statementMs: PROGRAM_STATEMENT_TIMEOUT_MS,
  answerMs: PROGRAM_STATEMENT_TIMEOUT_MS + SECOND_MS,
};

/** An index on all leases of some years is made in minutes, and one that was given up begins anew at the next start. */
export function upgrading({ connectMs }: PostgresPatience): PostgresPatience {
  return { connectMs, statementMs: 0, answerMs: 0 };
}

export interface PostgresHostsOptions {
  readonly patience?: PostgresPatience;
  /** Of the cluster, where somebody else connects to it as well. */
  readonly history?: ClusterHistory;
}

/** What connects to the database of a URL; one that loses its connection makes the next one anew. */
export function postgresHosts(
  url: string,
  { patience = SERVING, history = { timeline: 0 } }: PostgresHostsOptions = {},
): PostgresHosts {
  const config = {
    application_name: 'latchkey',
    max: MAX_DATABASE_CONNECTIONS,
    connectionTimeoutMillis: patience.connectMs,
    statement_timeout: patience.statementMs,
    query_timeout: patience.answerMs,
    // A server that hangs must not keep the lock of all writers.
    idle_in_transaction_session_timeout: DATABASE_IDLE_TRANSACTION_TIMEOUT_MS,
    keepAlive: true,
    // What does not wait for an answer goes out at once.
    pipeline: true,
    types: RESULT_TYPES,
  };
  return new PostgresHosts(hostUrls(url), config, history);
}

/** The dialect of kysely on such connections. */
export function postgresDialect(hosts: PostgresHosts): PostgresDialect {
  const names = new StatementNames();
  const durable = new WeakSet<PoolClient>();
  const dialect = new PostgresDialect({
    pool: {
      connect: async () => new GuardedClient(await connect(hosts, durable), names),
      end: () => hosts.end(),
      options: {},
    },
  });
  dialect.createQueryCompiler = () => new PortableTypesCompiler();
  return dialect;
}

/** Lets everything be read as it is at one moment. */
export function withPostgresSnapshot<Result>(
  database: Kysely<Database>,
  work: (reader: Kysely<Database>) => Promise<Result>,
): Promise<Result> {
  return database
    .transaction()
    .setIsolationLevel('repeatable read')
    .setAccessMode('read only')
    .execute(async (reader) => {
      await allowPauses(reader);
      return work(reader);
    });
}

/** For a transaction whose statements wait for somebody, who may be slow. */
export async function allowPauses(transaction: Kysely<Database>): Promise<void> {
  await sql`set local idle_in_transaction_session_timeout = ${sql.lit(MAX_SNAPSHOT_PAUSE_MS)}`.execute(
    transaction,
  );
}

/** @param durable connections that keep what they have acknowledged */
async function connect(hosts: PostgresHosts, durable: WeakSet<PoolClient>): Promise<PoolClient> {
  let client: PoolClient | undefined;
  try {
    client = await hosts.connect();
    if (durable.has(client)) return client;
    // A server that was told to lose acknowledged commits is told otherwise here, and stays so: with `off` in a crash, with
    // `local` in a failover. The other settings wait for the standbys that have to confirm, if there are any.
    await client.query(
      "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local')",
    );
    durable.add(client);
    return client;
  } catch (error) {
    client?.release(true);
    throw fromPostgresError(error);
  }
}

interface QueryAnswer {
  readonly command: 'UPDATE' | 'DELETE' | 'INSERT' | 'MERGE' | 'SELECT';
  readonly rowCount: number;
  readonly rows: never[];
}

/** Statements that each connection prepares once: to plan the query of a start costs more than to run it (measured). */
class StatementNames {
  readonly #names = new Map<string, string>();

  /** Undefined for a statement that is planned each time. */
  nameOf(sql: string): string | undefined {
    const known = this.#names.get(sql);
    if (known !== undefined) return known;
    // What asks for all columns would fail once a newer key server adds one.
    if (!/^(?:select|insert|update|delete|with) [^*]*$/.test(sql)) return undefined;
    if (this.#names.size >= MAX_PREPARED_STATEMENTS) return undefined;
    const name = `latchkey_${this.#names.size}`;
    this.#names.set(sql, name);
    return name;
  }
}

class GuardedClient {
  readonly #client: PoolClient;
  readonly #names: StatementNames;
  #broken = false;
  #warnings = 0;
  readonly #onNotice = ({ code }: { readonly code: string | undefined }) => {
    if (code === WARNING) this.#warnings += 1;
  };

  constructor(client: PoolClient, names: StatementNames) {
    this.#client = client;
    client.on('notice', this.#onNotice);
    this.#names = names;
  }

  readonly query = (async (sql: string, parameters?: readonly unknown[]): Promise<QueryAnswer> => {
    try {
      const name = this.#names.nameOf(sql);
      const values = [...(parameters ?? [])];
      const warnings = this.#warnings;
      const answer = await this.#client.query({ text: sql, values, ...(name === undefined ? {} : { name }) });
      // Where a standby has to confirm, the server waits; cut short, it calls the commit done and warns.
      if (sql === 'commit' && this.#warnings > warnings) throw unreplicated();
      return answer as unknown as QueryAnswer;
    } catch (error) {
      const failure = fromPostgresError(error);
      const known = sql === 'commit' && failure !== error ? unknownOutcome(failure) : failure;
      if (known !== error) this.#broken = true;
      // The server rolls back by itself what loses its connection; a failure here would hide the first one.
      if (sql === 'rollback') return { command: 'SELECT', rowCount: 0, rows: [] };
      throw known;
    }
  }) as unknown as PostgresPoolClient['query'];

  release(): void {
    this.#client.off('notice', this.#onNotice);
    this.#client.release(this.#broken);
  }
}

/** SQLite's types in the words of PostgreSQL; text compares by its bytes, as there. */
class PortableTypesCompiler extends PostgresQueryCompiler {
  protected override visitDataType(node: DataTypeNode): void {
    const type = { integer: 'bigint', blob: 'bytea', text: 'text collate "C"' }[node.dataType as string];
    if (type === undefined) super.visitDataType(node);
    else this.append(type);
  }
}

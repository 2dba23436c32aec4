/** The schema of a PostgreSQL database is changed over connections of its own, which wait as long as it takes. */
import { Kysely } from 'kysely';
import { type PostgresPatience, postgresDialect, postgresHosts, upgrading } from './postgres-database.ts';
import type { ClusterHistory } from './postgres-hosts.ts';
import type { Database } from './schema.ts';

/**
 * Does something with a database before it is used.
 * @param patience of whoever uses it then
 * @returns what was seen of its cluster
 * @throws LatchkeyError NET_UNREACHABLE, CONFIG_INVALID, STORAGE_*, and what the work throws
 */
export async function preparePostgres(
  url: string,
  patience: PostgresPatience,
  work: (database: Kysely<Database>) => Promise<void>,
): Promise<ClusterHistory> {
  const history = { timeline: 0 };
  const hosts = postgresHosts(url, { patience: upgrading(patience), history });
  const database = new Kysely<Database>({ dialect: postgresDialect(hosts) });
  try {
    await work(database);
    return history;
  } finally {
    await database.destroy();
  }
}

/** The schema of a PostgreSQL database is changed over connections of its own, which wait as long as it takes. */
import { Kysely } from 'kysely';
import { UPGRADING, postgresDialect, postgresHosts } from './postgres-database.ts';
import type { ClusterHistory } from './postgres-hosts.ts';
import type { Database } from './schema.ts';

/**
 * Does something with a database before it is used.
 * @param history what is seen of its cluster goes in here
 * @throws LatchkeyError NET_UNREACHABLE, CONFIG_INVALID, STORAGE_*, and what the work throws
 */
export async function preparePostgres(
  url: string,
  history: ClusterHistory,
  work: (database: Kysely<Database>) => Promise<void>,
): Promise<void> {
  const hosts = postgresHosts(url, { patience: UPGRADING, history });
  const database = new Kysely<Database>({ dialect: postgresDialect(hosts) });
  try {
    await work(database);
  } finally {
    await database.destroy();
  }
}

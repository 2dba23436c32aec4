/** The schema of a PostgreSQL database is changed over connections of its own, which wait as long as it takes. */
import { Kysely } from 'kysely';
import { UPGRADING, postgresDialect, postgresHosts } from './postgres-database.ts';
import type { Database } from './schema.ts';

/**
 * Does something with a database before it is used.
 * @throws LatchkeyError NET_UNREACHABLE, CONFIG_INVALID, STORAGE_*, and what the work throws
 */
export async function preparePostgres(
  url: string,
  work: (database: Kysely<Database>) => Promise<void>,
): Promise<void> {
  const database = new Kysely<Database>({ dialect: postgresDialect(postgresHosts(url, UPGRADING)) });
  try {
    await work(database);
  } finally {
    await database.destroy();
  }
}

/** The key that signs what a release is, and the signed statements. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  // Nullable: a migration has no root key to wrap a new key with; the start that follows makes it.
  await database.schema.alterTable('organization').addColumn('release_public_jwk', 'text').execute();
  await database.schema.alterTable('organization').addColumn('wrapped_release_key', 'blob').execute();
  await database.schema.alterTable('release').addColumn('statement', 'text').execute();
}

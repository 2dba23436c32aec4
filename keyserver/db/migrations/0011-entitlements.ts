/** Which features a license was sold with, and which of them a release asks for: codes with spaces between them. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema.alterTable('license').addColumn('entitlements', 'text').execute();
  await database.schema.alterTable('release').addColumn('entitlement_codes', 'text').execute();
}

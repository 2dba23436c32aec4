/** Policies: terms that licenses share. A license knows which of its terms are its own. */
import { type Kysely, sql } from 'kysely';

/** Terms of a license that were there before there were policies: all of them its own. */
const OWN_TERMS =
  'durationMs entitlements expirationBasis expirationStrategy expiresAtMs expiryGraceMs leaseDurationMs ' +
  'maxConcurrent maxInstallations maxNodes onRevoke overage versionConstraint';

export async function up(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('policy')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('revision', 'integer', (column) => column.notNull())
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addColumn('updated_at_ms', 'integer', (column) => column.notNull())
    .addColumn('code', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('is_trial', 'integer', (column) => column.notNull())
    .addColumn('max_nodes', 'integer', (column) => column.notNull())
    .addColumn('max_installations', 'integer')
    .addColumn('max_concurrent', 'integer')
    .addColumn('overage', 'text', (column) => column.notNull())
    .addColumn('lease_duration_ms', 'integer', (column) => column.notNull())
    .addColumn('on_revoke', 'text', (column) => column.notNull())
    .addColumn('version_constraint', 'text')
    .addColumn('entitlements', 'text')
    .addColumn('duration_ms', 'integer')
    .addColumn('expiration_basis', 'text', (column) => column.notNull())
    .addColumn('expiration_strategy', 'text', (column) => column.notNull())
    .addColumn('expiry_grace_ms', 'integer', (column) => column.notNull())
    .addUniqueConstraint('policy_code', ['organization_id', 'code'])
    .execute();
  await database.schema
    .alterTable('license')
    .addColumn('policy_id', 'text', (column) => column.references('policy.id'))
    .execute();
  await database.schema.alterTable('license').addColumn('own_terms', 'text').execute();
  await database.schema
    .alterTable('license')
    .addColumn('is_trial', 'integer', (column) => column.notNull().defaultTo(0))
    .execute();
  await sql`update license set own_terms = ${OWN_TERMS}`.execute(database);
  await database.schema.createIndex('license_policy_id').on('license').column('policy_id').execute();
}

/** Brings a database to this version's schema, and refuses one that a newer version has written. */
import type { Kysely } from 'kysely';
import { DEFAULT_MIGRATION_TABLE, type Migration, Migrator } from 'kysely/migration';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import * as initial from './migrations/0001-initial.ts';
import * as releaseStatements from './migrations/0002-release-statements.ts';
import * as nodeLife from './migrations/0003-node-life.ts';
import * as plaintextReports from './migrations/0004-plaintext-reports.ts';
import * as licenseCoverage from './migrations/0005-license-coverage.ts';
import * as imageKeyDestruction from './migrations/0006-image-key-destruction.ts';
import * as auditTree from './migrations/0007-audit-tree.ts';
import * as tokenLife from './migrations/0008-token-life.ts';
import * as idempotencyKeys from './migrations/0009-idempotency-keys.ts';
import * as auditByTarget from './migrations/0010-audit-by-target.ts';
import * as entitlements from './migrations/0011-entitlements.ts';
import * as seats from './migrations/0012-seats.ts';
import * as expiry from './migrations/0013-expiry.ts';
import * as policies from './migrations/0014-policies.ts';
import * as listIndexes from './migrations/0015-list-indexes.ts';
import * as meters from './migrations/0016-meters.ts';
import * as acknowledgements from './migrations/0019-acknowledgements.ts';
import * as offlineBundles from './migrations/0020-offline-bundles.ts';
import * as connectivityGrace from './migrations/0021-connectivity-grace.ts';
import * as rootKeySlots from './migrations/0022-root-key-slots.ts';
import * as auditExports from './migrations/0025-audit-exports.ts';
import * as usedChallenges from './migrations/0031-used-challenges.ts';
import * as leaseRepeats from './migrations/0032-lease-repeats.ts';
import * as leaseChains from './migrations/0033-lease-chains.ts';
import * as licenseLabels from './migrations/0036-license-labels.ts';
import * as connectivityGraceTerm from './migrations/0037-connectivity-grace-term.ts';
import * as nodeMeters from './migrations/0037-node-meters.ts';
import * as auditFieldKey from './migrations/0026-audit-field-key.ts';
import * as webhooks from './migrations/0027-webhooks.ts';
import * as leaseByNode from './migrations/0038-lease-by-node.ts';
import * as apiTokenTombstone from './migrations/0039-api-token-tombstone.ts';
import * as leaseTerms from './migrations/0040-lease-terms.ts';
import * as suspendedBeforeUse from './migrations/0041-suspended-before-use.ts';
import * as auditRequest from './migrations/0042-audit-request.ts';
import * as offlineStarts from './migrations/0043-offline-starts.ts';
import type { Database } from './schema.ts';

/** In order; a migration that was released never changes. */
export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '0001-initial': initial,
  '0002-release-statements': releaseStatements,
  '0003-node-life': nodeLife,
  '0004-plaintext-reports': plaintextReports,
  '0005-license-coverage': licenseCoverage,
  '0006-image-key-destruction': imageKeyDestruction,
  '0007-audit-tree': auditTree,
  '0008-token-life': tokenLife,
  '0009-idempotency-keys': idempotencyKeys,
  '0010-audit-by-target': auditByTarget,
  '0011-entitlements': entitlements,
  '0012-seats': seats,
  '0013-expiry': expiry,
  '0014-policies': policies,
  '0015-list-indexes': listIndexes,
  '0016-meters': meters,
  '0019-acknowledgements': acknowledgements,
  '0020-offline-bundles': offlineBundles,
  '0021-connectivity-grace': connectivityGrace,
  '0022-root-key-slots': rootKeySlots,
  '0025-audit-exports': auditExports,
  '0031-used-challenges': usedChallenges,
  '0032-lease-repeats': leaseRepeats,
  '0033-lease-chains': leaseChains,
  '0036-license-labels': licenseLabels,
  '0037-connectivity-grace-term': connectivityGraceTerm,
  '0037-node-meters': nodeMeters,
  '0038-lease-by-node': leaseByNode,
  '0039-api-token-tombstone': apiTokenTombstone,
  '0040-lease-terms': leaseTerms,
  '0041-suspended-before-use': suspendedBeforeUse,
  '0042-audit-request': auditRequest,
  '0043-offline-starts': offlineStarts,
  '0026-audit-field-key': auditFieldKey,
  '0027-webhooks': webhooks,
};

/** The schema of this version, by its last change. */
export function newestSchema(): string {
  return Object.keys(MIGRATIONS).sort().at(-1) ?? '';
}

/** @throws LatchkeyError STATE_NEWER_SCHEMA, STORAGE_FULL, STORAGE_FAILED, STATE_DAMAGED */
export async function migrate(database: Kysely<Database>): Promise<void> {
  await refuseNewerSchema(database);
  const { error } = await migratorOf(database).migrateToLatest();
  if (error !== undefined) throw toLatchkeyError(error);
}

/**
 * Gives a database without a key server the schema of an earlier version, or of this one.
 * @param schema its last change
 * @throws LatchkeyError STATE_CONFLICT when there is a key server, or a later schema, STORAGE_*
 */
export async function migrateEmpty(database: Kysely<Database>, schema: string): Promise<void> {
  await refuseNewerSchema(database);
  const applied = await appliedSchemas(database);
  if (applied.some((name) => name > schema)) throw notEmpty('the tables of a later version');
  if (applied.length > 0) {
    const organization = await database.selectFrom('organization').select('id').executeTakeFirst();
    if (organization !== undefined) throw notEmpty('a key server');
  } else if ((await database.introspection.getTables()).length > 0) throw notEmpty('tables');
  const { error } = await migratorOf(database).migrateTo(schema);
  if (error !== undefined) throw toLatchkeyError(error);
}

function notEmpty(what: string): LatchkeyError {
  return new LatchkeyError('STATE_CONFLICT', `there is ${what} in this database already`, {
    hint: 'name an empty one with --data or --database; nothing was changed',
  });
}

function migratorOf(database: Kysely<Database>): Migrator {
  return new Migrator({
    db: database,
    provider: { getMigrations: () => Promise.resolve({ ...MIGRATIONS }) },
  });
}

async function refuseNewerSchema(database: Kysely<Database>): Promise<void> {
  const unknown = (await appliedSchemas(database)).find((name) => !Object.hasOwn(MIGRATIONS, name));
  if (unknown !== undefined) {
    throw new LatchkeyError(
      'STATE_NEWER_SCHEMA',
      `the database was written by a newer Latchkey (it has schema change ${unknown})`,
      { hint: 'install that version or a later one; nothing was changed' },
    );
  }
}

async function appliedSchemas(database: Kysely<Database>): Promise<string[]> {
  const tables = await database.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === DEFAULT_MIGRATION_TABLE)) return [];
  const applied = await database
    .$extendTables<{ [DEFAULT_MIGRATION_TABLE]: { name: string } }>()
    .selectFrom(DEFAULT_MIGRATION_TABLE)
    .select('name')
    .execute();
  return applied.map(({ name }) => name);
}

/** `keyserver/main.js restore`: makes a key server of a backup. What opens the root key comes on standard input. */
import { parseArgs } from 'node:util';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { DEFAULT_DATA_DIRECTORY, databaseOf } from './arguments.ts';
import { type RowCounts, countRows, insertRows } from './backup/insert-backup.ts';
import { type BackupFile, backupLines, openBackup } from './backup/open-backup.ts';
import { readTokenOption } from './custody/root-key-token.ts';
import { MIGRATIONS, migrate, migrateEmpty } from './db/migrate.ts';
import { allowPauses } from './db/postgres-database.ts';
import { beginAnew, noteRestore } from './domain/after-restore.ts';
import { openGivenRootKey } from './given-proof.ts';
import { makeDataDirectory, openDatabaseOnce } from './start.ts';

const OPTIONS = {
  data: { type: 'string', default: DEFAULT_DATA_DIRECTORY },
  database: { type: 'string' },
  'root-key-token': { type: 'string' },
  'dry-run': { type: 'boolean', default: false },
} as const;

/** What is printed, as one JSON document. */
export interface RestoreAnswer {
  readonly organizationId: string;
  readonly createdAtMs: number;
  readonly restored: boolean;
  readonly licenses: number;
  readonly nodes: number;
  /** Of the backup; what came after them has not happened. */
  readonly auditEvents: number;
  readonly slots: readonly { readonly label: string; readonly kind: string }[];
}

/**
 * @param args after `restore`; the command line has checked them
 * @throws LatchkeyError KEY_INVALID, CRYPTO_AUTHENTICATION_FAILED, INPUT_*, STATE_CONFLICT when the database is not empty,
 *   STATE_NEWER_SCHEMA, STATE_NOT_FOUND, STORAGE_*
 */
export async function restore(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  input: AsyncIterable<Buffer>,
): Promise<RestoreAnswer> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: OPTIONS,
    strict: true,
    allowPositionals: true,
  });
  const backup = await openBackup(positionals[0] ?? '');
  const { organizationId, createdAtMs, schema, slots } = backup.header;
  requireKnownSchema(schema);
  const token = values['root-key-token'];
  const rootKeyToken = token === undefined ? null : readTokenOption(token);
  const rootKey = await openGivenRootKey(input, rootKeyToken, organizationId, slots);
  // All of it, before anything is touched.
  const counts = await countRows(backupLines(backup, rootKey));
  if (!values['dry-run']) {
    await makeDataDirectory(values.data);
    await insertBackup(
      { dataDirectory: values.data, database: databaseOf(values.database, environment) },
      backup,
      rootKey,
    );
  }
  return {
    organizationId,
    createdAtMs,
    restored: !values['dry-run'],
    ...counted(counts),
    slots: slots.map(({ label, kind }) => ({ label, kind })),
  };
}

/** One transaction: a restore that dies has not been. */
async function insertBackup(
  options: Parameters<typeof openDatabaseOnce>[0],
  backup: BackupFile,
  rootKey: Uint8Array,
): Promise<void> {
  const { organizationId, schema, createdAtMs } = backup.header;
  const store = await openDatabaseOnce(options, (database) => migrateEmpty(database, schema));
  try {
    await store.write(async (writer) => {
      if (options.database !== null) await allowPauses(writer);
      const counts = await insertRows(writer, backupLines(backup, rootKey));
      const nowMs = systemClock.nowMs();
      const revision = await beginAnew(writer, organizationId, nowMs);
      const { auditEvents } = counted(counts);
      await noteRestore(writer, organizationId, nowMs, { backupTimeMs: createdAtMs, revision, auditEvents });
    });
    await migrate(store.read);
  } finally {
    await store.close();
  }
}

function requireKnownSchema(schema: string): void {
  if (Object.hasOwn(MIGRATIONS, schema)) return;
  throw new LatchkeyError(
    'STATE_NEWER_SCHEMA',
    `the backup was made by a newer Latchkey (it has schema change ${JSON.stringify(schema)})`,
    { hint: 'install that version or a later one; nothing was changed' },
  );
}

function counted({ license = 0, node = 0, audit_event: auditEvents = 0 }: RowCounts) {
  return { licenses: license, nodes: node, auditEvents };
}

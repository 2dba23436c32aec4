/** Looks at how a key server is set up, whether it runs or not, and changes nothing. */
import { readFile, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { sql } from 'kysely';
import * as z from 'zod';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { isLoopbackHost } from '#src/registry/endpoint.ts';
import { sealStatusSchema } from '#src/wire/admin/seal.ts';
import type { RootKeyTokenUri } from '../custody/root-key-token.ts';
import { hostUrls, readDatabaseUrl } from '../database-url.ts';
import type { Reader, Store } from '../db/store.ts';
import { DOCTOR_ANSWER_TIMEOUT_MS } from '../limits.ts';
import { openDatabaseOnce } from '../start.ts';
import type { FileFacts, PostgresFacts, ServerFacts } from './findings.ts';

export interface DoctorOptions {
  readonly dataDirectory: string;
  readonly database: string | null;
  readonly rootKeyFile: string;
  readonly rootKeyToken: RootKeyTokenUri | null;
  readonly checkpointDirectory: string | null;
}

/** @throws LatchkeyError STATE_NOT_FOUND where there is no data directory, and what the database fails with */
export async function gatherFacts(options: DoctorOptions, nowMs: number): Promise<ServerFacts> {
  const { dataDirectory, rootKeyFile, rootKeyToken, checkpointDirectory } = options;
  const directory = await fileFacts(dataDirectory);
  if (directory?.isDirectory !== true) {
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no data directory ${dataDirectory}`, {
      hint: 'name it with --data, as for `latchkey serve`',
    });
  }
  const pinSource = rootKeyToken?.pinSource;
  const adminTokenPath = join(dataDirectory, 'admin.token');
  const device = directory.device;
  const deviceOf = async (path: string) => (await fileFacts(path))?.device;
  return {
    nowMs,
    rootKey: await fileFacts(rootKeyFile),
    isRootKeyOnDataDisk: (await deviceOf(rootKeyFile)) === device,
    pin: pinSource === undefined ? undefined : await fileFacts(pinSource),
    dataDirectory: directory,
    adminTokenPath: (await fileFacts(adminTokenPath)) === undefined ? undefined : adminTokenPath,
    fileSystem: (await statfs(dataDirectory)).type,
    checkpoints:
      checkpointDirectory === null
        ? undefined
        : {
            path: checkpointDirectory,
            // Of one that is still to be made, its parent's.
            isOnDataDisk:
              ((await deviceOf(checkpointDirectory)) ?? (await deviceOf(dirname(checkpointDirectory)))) ===
              device,
          },
    ...(await databaseFacts(options)),
  };
}

type DatabaseFacts = Pick<ServerFacts, 'hasDatabase' | 'slots' | 'postgres' | 'lastBackupMs'>;

const NONE: DatabaseFacts = {
  hasDatabase: false,
  slots: undefined,
  postgres: undefined,
  lastBackupMs: undefined,
};

async function databaseFacts(options: DoctorOptions): Promise<DatabaseFacts> {
  const { dataDirectory, database } = options;
  // Opening would make one.
  if (database === null && (await fileFacts(join(dataDirectory, 'latchkey.db'))) === undefined) return NONE;
  let store: Store;
  try {
    // As it is: a database of an earlier version is not brought up to date by looking at it.
    store = await openDatabaseOnce(options, () => Promise.resolve());
  } catch (error) {
    if (!(error instanceof LatchkeyError) || error.code !== 'STATE_CONFLICT') throw error;
    return { ...NONE, hasDatabase: true, slots: await slotsOfRunning(dataDirectory) };
  }
  try {
    return {
      hasDatabase: true,
      slots: await storedSlots(store.read),
      postgres:
        database === null ? undefined : await postgresFacts(store.read, await readDatabaseUrl(database)),
      lastBackupMs: await lastBackup(store.read),
    };
  } finally {
    await store.close();
  }
}

/** Undefined in a database of before there were slots. */
async function storedSlots(reader: Reader): Promise<DatabaseFacts['slots']> {
  if (!(await hasTable(reader, 'root_key_slot'))) return undefined;
  return reader.selectFrom('root_key_slot').select(['kind', 'label']).orderBy('id').execute();
}

async function lastBackup(reader: Reader): Promise<number | null> {
  if (!(await hasTable(reader, 'audit_event'))) return null;
  const event = await reader
    .selectFrom('audit_event')
    .select('time_ms')
    .where('action', '=', 'custody.backup')
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst();
  return event?.time_ms ?? null;
}

async function hasTable(reader: Reader, name: string): Promise<boolean> {
  return (await reader.introspection.getTables()).some((table) => table.name === name);
}

async function postgresFacts(reader: Reader, url: string): Promise<PostgresFacts> {
  // What the server, or the user's own settings, say; the connection has its own.
  const { rows } = await sql<{ name: string; value: string }>`
    select name, reset_val as value from pg_settings
    where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'synchronous_standby_names')
  `.execute(reader);
  const setting = (name: string) => rows.find((row) => row.name === name)?.value ?? '';
  const hosts = hostUrls(url).map((text) => new URL(text));
  return {
    fsync: setting('fsync'),
    synchronousCommit: setting('synchronous_commit'),
    fullPageWrites: setting('full_page_writes'),
    standbyNames: setting('synchronous_standby_names'),
    hosts: hosts.length,
    isLineOpen: hosts.some(
      ({ hostname, searchParams }) =>
        hostname !== '' && !isLoopbackHost(hostname) && searchParams.get('sslmode') !== 'verify-full',
    ),
  };
}

/** A server that runs has its SQLite database for itself, and tells everybody its slots. */
async function slotsOfRunning(dataDirectory: string): Promise<DatabaseFacts['slots']> {
  try {
    const text = await readFile(join(dataDirectory, 'endpoints.json'), 'utf8');
    const { adminUrl } = z.object({ adminUrl: z.string() }).parse(JSON.parse(text));
    const answer = await fetch(new URL('/v1/sys/seal-status', adminUrl), {
      redirect: 'error',
      signal: AbortSignal.timeout(DOCTOR_ANSWER_TIMEOUT_MS),
    });
    return sealStatusSchema.parse(await answer.json()).slots;
  } catch {
    // That it cannot be asked is a finding, whatever the reason.
    return undefined;
  }
}

interface SeenFile extends FileFacts {
  readonly device: number;
  readonly isDirectory: boolean;
}

async function fileFacts(path: string): Promise<SeenFile | undefined> {
  try {
    const status = await stat(path);
    return { path, mode: status.mode, device: status.dev, isDirectory: status.isDirectory() };
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return undefined;
    if (systemErrorCode(error) !== 'EACCES') throw error;
    throw new LatchkeyError('CONFIG_INVALID', `${path} cannot be looked at`, {
      hint: 'run it as the user of the key server',
      cause: error,
    });
  }
}

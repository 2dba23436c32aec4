/** Starts a key server: data directory, database, keys, listeners. Stops them in the opposite order. */
import { join } from 'node:path';
import type { Logger } from 'pino';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { readDatabaseUrl } from './database-url.ts';
import { startImageKeySweep } from './image-key-sweep.ts';
import { startLeaseSweep } from './lease-sweep.ts';
import { makeDirectory } from '#src/base/make-directory.ts';
import type { ServeOptions } from './arguments.ts';
import { appendAuditEvent } from './audit/append-event.ts';
import { AuditExports } from './audit/export/audit-exports.ts';
import { openCheckpointDirectory } from './audit/checkpoint-directory.ts';
import { RefusalTally } from './audit/refusal-tally.ts';
import { type PostgresPatience, RUN_ONCE } from './db/postgres-database.ts';
import { SpaceReserve } from './db/space-reserve.ts';
import { type Preparation, type Store, openPostgresStore, openStore } from './db/store.ts';
import { acceptRestore } from './domain/after-restore.ts';
import { ChangeFeed } from './domain/change-feed.ts';
import type { KeyServer } from './domain/key-server.ts';
import { ReleaseThread } from './custody/release-thread.ts';
import {
  type CompleteOrganization,
  findOrganization,
  requireCompleteOrganization,
} from './domain/organization.ts';
import { recoverAdmin } from './domain/recover-admin.ts';
import { Seal } from './domain/seal.ts';
import { readAdminTls } from './http/admin-tls.ts';
import { type Endpoints, Listening } from './listening.ts';
import { keyOpener } from './open-keys.ts';
import { replaceOwnerFile } from './owner-file.ts';
import { NOBODY_OBSERVES } from './metrics/store-observer.ts';
import { RateLimit } from './rate-limit.ts';
import { unattendedOpening, unsealUnattended, warnOfCustody } from './unattended-unsealing.ts';
import { type Beginning, initialize } from './initialize.ts';
import { startDiskWatch } from './disk-watch.ts';
import { Drain } from './drain.ts';
import { KeyServerMetrics } from './metrics/key-server-metrics.ts';
import type { StoreObserver } from './metrics/store-observer.ts';
import { Webhooks } from './webhook/webhooks.ts';

const OWNER_ONLY_DIRECTORY = 0o700;

export interface RunningKeyServer extends Endpoints {
  /** True when this start made the organization. */
  readonly firstStart: boolean;
  /** True when the keys are still to be opened. */
  readonly isSealed: boolean;
  /** Waits for who still comes and for what is under way. */
  stop(): Promise<void>;
}

/** @throws LatchkeyError CONFIG_INVALID, STATE_*, STORAGE_*, USAGE_INVALID */
export async function startKeyServer(
  options: ServeOptions,
  version: string,
  logger: Logger,
): Promise<RunningKeyServer> {
  const adminTls = options.adminTls === null ? null : await readAdminTls(options.adminTls);
  await makeDataDirectory(options.dataDirectory);
  const metrics = new KeyServerMetrics();
  const store = await openDatabase(options, metrics);
  try {
    const { server, organization, firstStart } = await openKeyServer(store, options, logger);
    const stopSweep = await startImageKeySweep(server, logger);
    const webhooks = new Webhooks({ server, logger });
    webhooks.start();
    const listening = await Listening.start({
      server,
      authorityCertificate: organization.authority_certificate,
      options,
      adminTls,
      version,
      logger,
      metrics,
    });
    const stopWatch = await startDiskWatch(store.reserve, logger);
    const stopLeaseSweep = startLeaseSweep(server, logger);
    return {
      ...listening.endpoints,
      firstStart,
      isSealed: server.seal.isSealed,
      stop: async () => {
        await server.drain.begin();
        await listening.stop();
        stopWatch();
        await server.refusals.flush();
        await Promise.all([stopSweep(), stopLeaseSweep()]);
        await Promise.all([server.auditExports.stop(), webhooks.stop()]);
        await Promise.all([server.seal.seal(), server.releaseThread.close()]);
        await store.close();
      },
    };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** @throws LatchkeyError STATE_*, STORAGE_*, NET_UNREACHABLE, CONFIG_INVALID */
export async function openDatabase(
  options: Pick<ServeOptions, 'database' | 'dataDirectory'>,
  metrics: StoreObserver,
  prepare?: Preparation,
  patience?: PostgresPatience,
): Promise<Store> {
  const { dataDirectory } = options;
  if (options.database === null) {
    const reserve = await SpaceReserve.open(dataDirectory);
    return openStore(join(dataDirectory, 'latchkey.db'), metrics, reserve, prepare);
  }
  return openPostgresStore(await readDatabaseUrl(options.database), metrics, prepare, patience);
}

/** For a program that runs once, beside key servers that may be running. */
export function openDatabaseOnce(
  options: Pick<ServeOptions, 'database' | 'dataDirectory'>,
  prepare?: Preparation,
): Promise<Store> {
  return openDatabase(options, NOBODY_OBSERVES, prepare, RUN_ONCE);
}

/** Without `server init`, a file holds the root key. */
function firstStartOf(options: ServeOptions): Beginning {
  if (options.rootKeyToken === null) return { ...options, sharedSlots: [] };
  throw new LatchkeyError('CONFIG_INVALID', 'there is no key server yet that a token could open', {
    hint: 'make it with `latchkey server init --custody pkcs11`',
  });
}

interface OpenedKeyServer {
  readonly server: KeyServer;
  readonly organization: CompleteOrganization;
  readonly firstStart: boolean;
}

async function openKeyServer(store: Store, options: ServeOptions, logger: Logger): Promise<OpenedKeyServer> {
  const existing = await findOrganization(store);
  const { isNew } =
    existing === undefined ? await initialize(store, firstStartOf(options)) : { isNew: false };
  const seal = new Seal(
    keyOpener({
      store,
      checkpointDirectory: await openCheckpointDirectory(options.auditCheckpointDirectory),
      acceptsOlderDatabase: options.afterRestore && !isNew,
      logger,
    }),
  );
  await unsealUnattended(seal, await unattendedOpening(store, options, logger));
  await warnOfCustody(store, logger);
  const organization = await requireCompleteOrganization(store);
  const changes = new ChangeFeed((nodeIds) => {
    store.announce(nodeIds);
  });
  store.onAnnounced((nodeIds) => {
    changes.wake(nodeIds);
  });
  const server: KeyServer = {
    organizationId: organization.id,
    store,
    seal,
    get keys() {
      return seal.unsealed.keys;
    },
    get cursorKey() {
      return seal.cursorKey;
    },
    leaseVerificationJwk: organization.lease_public_jwk,
    releaseVerificationJwk: organization.release_public_jwk,
    releaseThread: new ReleaseThread(),
    nodeCertificateLifetimeMs: options.nodeCertificateLifetimeMs,
    allowsPrivateWebhooks: options.allowsPrivateWebhooks,
    clock: systemClock,
    random: Math.random,
    drain: new Drain(options.drainMs),
    changes,
    refusals: new RefusalTally({
      clock: systemClock,
      record: (entry) =>
        store.write((writer) => appendAuditEvent(writer, organization.id, systemClock.nowMs(), entry)),
      onFailure: (error) => {
        logger.error({ err: error }, 'refusals of strangers are not in the audit log');
      },
    }),
    licenseRate: new RateLimit(options.rates.license, systemClock),
    get auditPublisher() {
      return seal.unsealed.auditPublisher;
    },
    auditExports: await AuditExports.open({
      store,
      organizationId: organization.id,
      targets: options.auditExports,
      clock: systemClock,
      random: Math.random,
      logger,
    }),
  };
  if (options.afterRestore && !isNew) await acceptRestore(server);
  if (options.recoversAdmin && !isNew) {
    await recoverAdmin(server, (token) =>
      replaceOwnerFile(join(options.dataDirectory, 'admin.token'), `${token}\n`),
    );
  }
  await server.auditExports.start();
  return { server, organization, firstStart: isNew };
}

/** @throws LatchkeyError CONFIG_INVALID for a path that can be none */
export async function makeDataDirectory(path: string): Promise<void> {
  try {
    await makeDirectory(path, OWNER_ONLY_DIRECTORY);
  } catch (error) {
    if (!['EEXIST', 'ENOTDIR', 'EACCES'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('CONFIG_INVALID', `the data directory ${path} cannot be made`, {
      hint: 'name a directory with --data that this user may write to',
      cause: error,
    });
  }
}

/** Starts a key server: data directory, database, keys, listeners. Stops them in the opposite order. */
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { SHUTDOWN_GRACE_MS } from './limits.ts';
import { readDatabaseUrl } from './database-url.ts';
import { startImageKeySweep } from './image-key-sweep.ts';
import { makeDirectory } from '#src/base/make-directory.ts';
import { type ServeOptions, parseListen } from './arguments.ts';
import { AuditPublisher } from './audit/audit-publisher.ts';
import { AuditExports } from './audit/export/audit-exports.ts';
import { openAuditKey } from './audit/audit-key.ts';
import { openCheckpointDirectory } from './audit/checkpoint-directory.ts';
import { openOrganizationKeys } from './custody/organization-keys.ts';
import { createRootKeyFile, openRootKeyFile } from './custody/root-key-file.ts';
import { type Store, openPostgresStore, openStore } from './db/store.ts';
import { acceptRestore } from './domain/after-restore.ts';
import { newToken } from './domain/api-tokens.ts';
import { ChangeFeed } from './domain/change-feed.ts';
import type { KeyServer } from './domain/key-server.ts';
import {
  authorityPem,
  completeOrganization,
  createOrganization,
  findOrganization,
} from './domain/organization.ts';
import { createCallLog } from './grpc/call-log.ts';
import { startNodeListeners } from './grpc/node-listeners.ts';
import { createAdminApp } from './http/admin-app.ts';
import { type AdminTls, readAdminTls } from './http/admin-tls.ts';
import { RateLimit } from './rate-limit.ts';
import { replaceOwnerFile } from './owner-file.ts';

const OWNER_ONLY_DIRECTORY = 0o700;

export interface Endpoints {
  readonly adminUrl: string;
  readonly nodeAddress: string;
  readonly enrollAddress: string;
}

export interface RunningKeyServer extends Endpoints {
  /** True when this start made the organization. */
  readonly firstStart: boolean;
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
  const store = await openDatabase(options);
  try {
    const { server, firstStart } = await openKeyServer(store, options, logger);
    const stopSweep = await startImageKeySweep(server, logger);
    const endpoints = await listen(server, options, adminTls, version, logger);
    await writeOwnerFile(options, 'authority.pem', authorityPem(server.keys.authorityCertificate));
    const { adminUrl, nodeAddress, enrollAddress } = endpoints;
    const published: Endpoints = { adminUrl, nodeAddress, enrollAddress };
    await writeOwnerFile(options, 'endpoints.json', `${JSON.stringify(published, null, 2)}\n`);
    return {
      ...published,
      firstStart,
      stop: async () => {
        await endpoints.stop();
        await stopSweep();
        await server.auditExports.stop();
        await server.auditPublisher.stop();
        await store.close();
      },
    };
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function openDatabase(options: ServeOptions): Promise<Store> {
  if (options.database === null) return openStore(join(options.dataDirectory, 'latchkey.db'));
  return openPostgresStore(await readDatabaseUrl(options.database));
}

async function openKeyServer(
  store: Store,
  options: ServeOptions,
  logger: Logger,
): Promise<{ server: KeyServer; firstStart: boolean }> {
  const existing = await findOrganization(store);
  const { row: stored, isNew } =
    existing === undefined ? await initialize(store, options) : { row: existing, isNew: false };
  const custody = await openRootKeyFile(options.rootKeyFile);
  const organization = await completeOrganization(store, custody, stored, systemClock.nowMs());
  const changes = new ChangeFeed((nodeIds) => {
    store.announce(nodeIds);
  });
  store.onAnnounced((nodeIds) => {
    changes.wake(nodeIds);
  });
  const keys = await openOrganizationKeys(organization.id, organization, custody);
  const server: KeyServer = {
    organizationId: organization.id,
    store,
    keys,
    leaseVerificationJwk: organization.lease_public_jwk,
    releaseVerificationJwk: organization.release_public_jwk,
    nodeCertificateLifetimeMs: options.nodeCertificateLifetimeMs,
    clock: systemClock,
    random: Math.random,
    changes,
    licenseRate: new RateLimit(options.rates.license, systemClock),
    auditPublisher: new AuditPublisher({
      store,
      organizationId: organization.id,
      key: await openAuditKey(store, organization.id, keys, systemClock.nowMs()),
      directory: await openCheckpointDirectory(options.auditCheckpointDirectory),
      clock: systemClock,
      onFailure: (error) => {
        logger.error({ err: error }, 'the audit log got no checkpoint');
      },
    }),
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
  else await server.auditPublisher.refuseRollback();
  await server.auditPublisher.start();
  await server.auditExports.start();
  return { server, firstStart: isNew };
}

/**
 * Makes root key, admin token and organization. Files come before the rows that need them: a start that dies
 * in between is simply repeated. Of several first starts on one database, one makes them and the others join it.
 */
async function initialize(store: Store, options: ServeOptions) {
  await createRootKeyFile(options.rootKeyFile);
  const custody = await openRootKeyFile(options.rootKeyFile);
  const adminToken = newToken();
  return createOrganization(store, custody, {
    name: options.organizationName,
    contact: options.contact,
    nowMs: systemClock.nowMs(),
    adminToken,
    keepAdminToken: () => writeOwnerFile(options, 'admin.token', `${adminToken}\n`),
  });
}

async function writeOwnerFile(options: ServeOptions, name: string, text: string): Promise<void> {
  await replaceOwnerFile(join(options.dataDirectory, name), text);
}

async function makeDataDirectory(path: string): Promise<void> {
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

async function listen(
  server: KeyServer,
  options: ServeOptions,
  adminTls: AdminTls | null,
  version: string,
  logger: Logger,
): Promise<Endpoints & { stop(): Promise<void> }> {
  const app = await createAdminApp(server, logger, version, adminTls, options.rates.token);
  const nodes = await startNodeListeners(server, options, createCallLog(logger));
  const stop = async () => {
    await Promise.all([nodes.stop(), closeAdmin(app)]);
  };
  try {
    const adminUrl = await listenAdmin(app, options.adminListen);
    return { adminUrl, nodeAddress: nodes.nodeAddress, enrollAddress: nodes.enrollAddress, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Waits a moment for requests under way; one that never arrives whole must not keep the server from stopping. */
async function closeAdmin(app: FastifyInstance): Promise<void> {
  const force = setTimeout(() => {
    app.server.closeAllConnections();
  }, SHUTDOWN_GRACE_MS);
  await app.close();
  clearTimeout(force);
}

async function listenAdmin(app: FastifyInstance, address: string): Promise<string> {
  try {
    return await app.listen(parseListen(address, 'admin-listen'));
  } catch (error) {
    if (systemErrorCode(error) !== 'EADDRINUSE') throw toLatchkeyError(error);
    throw new LatchkeyError('STATE_PORT_IN_USE', `another program listens on ${address}`, {
      hint: 'stop it or choose another port',
      cause: error,
    });
  }
}

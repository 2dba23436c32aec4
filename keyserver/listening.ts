/** The listeners of a key server: the admin API always, those for nodes as soon as there is a certificate to show them. */
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { type ServeOptions, parseListen } from './arguments.ts';
import { issueListenerCertificate, keptListenerCertificate } from './custody/listener-certificate.ts';
import type { KeyServer } from './domain/key-server.ts';
import { authorityPem } from './domain/organization.ts';
import type { SealListener } from './domain/seal.ts';
import { createCallLog } from './grpc/call-log.ts';
import { type ListenerIdentity, type NodeListeners, startNodeListeners } from './grpc/node-listeners.ts';
import { createAdminApp } from './http/admin-app.ts';
import type { AdminTls } from './http/admin-tls.ts';
import type { KeyServerMetrics } from './metrics/key-server-metrics.ts';
import { type MetricsListener, startMetricsListener } from './metrics/metrics-listener.ts';
import { SHUTDOWN_GRACE_MS } from './limits.ts';
import { replaceOwnerFile } from './owner-file.ts';

/** Always in the certificate: the demo, tests and a node beside the server use them. */
const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '::1'];

export interface Endpoints {
  readonly adminUrl: string;
  readonly nodeAddress: string;
  readonly enrollAddress: string;
  /** There when metrics are served. */
  readonly metricsAddress?: string;
}

export interface ListeningParts {
  readonly server: KeyServer;
  /** DER */
  readonly authorityCertificate: Uint8Array;
  readonly options: ServeOptions;
  readonly adminTls: AdminTls | null;
  readonly version: string;
  readonly logger: Logger;
  readonly metrics: KeyServerMetrics;
}

export class Listening implements SealListener {
  readonly #parts: ListeningParts;
  readonly #admin: FastifyInstance;
  #adminUrl = '';
  #nodes: NodeListeners | null = null;
  #metrics: MetricsListener | null = null;

  private constructor(parts: ListeningParts, admin: FastifyInstance) {
    this.#parts = parts;
    this.#admin = admin;
  }

  /**
   * Starts to listen. On a data directory without a certificate, nodes are listened to from the unsealing on.
   * @throws LatchkeyError STATE_PORT_IN_USE, USAGE_INVALID, STORAGE_*
   */
  static async start(parts: ListeningParts): Promise<Listening> {
    const { server, adminTls, version, logger, options, metrics } = parts;
    const admin = await createAdminApp(server, logger, version, adminTls, options.rates.token, metrics);
    const listening = new Listening(parts, admin);
    try {
      await listening.#startMetrics();
      if (server.seal.isSealed) await listening.#startSealed();
      else await listening.onUnsealed();
      server.seal.listen(listening);
      listening.#adminUrl = await listenAdmin(admin, options.adminListen);
      await listening.#publishEndpoints();
      return listening;
    } catch (error) {
      await listening.stop();
      throw error;
    }
  }

  get endpoints(): Endpoints {
    const { nodeListen, enrollListen } = this.#parts.options;
    return {
      adminUrl: this.#adminUrl,
      nodeAddress: this.#nodes?.nodeAddress ?? nodeListen,
      enrollAddress: this.#nodes?.enrollAddress ?? enrollListen,
      ...(this.#metrics === null ? {} : { metricsAddress: this.#metrics.address }),
    };
  }

  /** Listeners that run keep the certificate they have; the new one is for the next start. */
  async onUnsealed(): Promise<void> {
    const { server, options } = this.#parts;
    const names = [...new Set([...LOOPBACK_NAMES, ...options.hostnames])];
    const issued = await issueListenerCertificate(
      server.keys,
      names,
      options.dataDirectory,
      server.clock.nowMs(),
    );
    if (this.#nodes !== null) {
      this.#nodes.sealChanged();
      return;
    }
    await this.#startNodes({ ...issued, authorityPem: this.#authorityPem() });
    if (this.#adminUrl !== '') await this.#publishEndpoints();
  }

  onSealed(): void {
    this.#nodes?.sealChanged();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#nodes?.stop(), closeAdmin(this.#admin)]);
    this.#metrics?.stop();
  }

  async #startMetrics(): Promise<void> {
    const { server, options, metrics, version } = this.#parts;
    if (options.metricsListen === null) return;
    this.#metrics = await startMetricsListener(options.metricsListen, server, metrics, () => ({
      version,
      watchers: this.#nodes?.watchers() ?? 0,
    }));
  }

  async #startSealed(): Promise<void> {
    const { server, options, authorityCertificate, logger } = this.#parts;
    const kept = await keptListenerCertificate(
      authorityCertificate,
      options.dataDirectory,
      server.clock.nowMs(),
    );
    if (kept === null) logger.warn('nodes are not listened to before the first unsealing');
    else await this.#startNodes({ ...kept, authorityPem: this.#authorityPem() });
  }

  async #startNodes(identity: ListenerIdentity): Promise<void> {
    const { server, options, logger, metrics } = this.#parts;
    this.#nodes = await startNodeListeners(server, identity, options, createCallLog(logger), metrics);
  }

  #authorityPem(): string {
    return authorityPem(this.#parts.authorityCertificate);
  }

  async #publishEndpoints(): Promise<void> {
    const { dataDirectory } = this.#parts.options;
    await replaceOwnerFile(join(dataDirectory, 'authority.pem'), this.#authorityPem());
    await replaceOwnerFile(
      join(dataDirectory, 'endpoints.json'),
      `${JSON.stringify(this.endpoints, null, 2)}\n`,
    );
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

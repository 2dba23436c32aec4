/** Serves the metrics to Prometheus, with what only the database knows. */
import { serveMetrics } from '#src/base/metrics-endpoint.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { LeaseCount } from './lease-count.ts';
import type { KeyServerMetrics, KeyServerState } from './key-server-metrics.ts';

/** What the listeners know. */
export type ListenerState = Pick<KeyServerState, 'version' | 'watchers'>;

export interface MetricsListener {
  /** `host:port` with the real port. */
  readonly address: string;
  stop(): void;
}

/**
 * Listens until it is stopped.
 * @param address `host:port`
 * @throws LatchkeyError CONFIG_INVALID when the address cannot be used
 */
export async function startMetricsListener(
  address: string,
  server: KeyServer,
  metrics: KeyServerMetrics,
  state: () => ListenerState,
): Promise<MetricsListener> {
  const leases = new LeaseCount(server.store.read, server.clock);
  const listener = await serveMetrics(address, '--metrics-listen', async () => {
    const { store, seal } = server;
    const last = await store.read
      .selectFrom('audit_event')
      .select('sequence')
      .orderBy('sequence', 'desc')
      .limit(1)
      .executeTakeFirst();
    const exports = await server.auditExports.list();
    const webhooks = await store.read
      .selectFrom('webhook_endpoint')
      .select((column) => column.fn.countAll<number>().as('failing'))
      .where('state', '=', 'ENABLED')
      .where('failing_since_ms', 'is not', null)
      .executeTakeFirstOrThrow();
    const published = seal.isSealed ? null : seal.unsealed.auditPublisher.published;
    return metrics.text({
      ...state(),
      isSealed: seal.isSealed,
      leases: await leases.current(),
      auditEvents: last?.sequence ?? 0,
      auditCheckpointEvents: published?.size ?? 0,
      auditCheckpointMs: published?.signedAtMs ?? 0,
      auditExportBehindEvents: Math.max(0, ...exports.map(({ behind }) => behind)),
      auditExportsFailing: exports.filter(({ failure }) => failure !== null).length,
      webhooksFailing: webhooks.failing,
      disk:
        store.reserve === null
          ? null
          : { freeBytes: await store.reserve.freeBytes(), state: await store.reserve.diskState() },
    });
  });
  const bound = listener.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  return {
    address: `${address.slice(0, address.lastIndexOf(':'))}:${port}`,
    stop: () => {
      listener.close();
      listener.closeAllConnections();
    },
  };
}

/** What the metrics say of the agent's present state. */
import type { PlaintextStore } from '../snapshotter/plaintext-store.ts';
import type { Clock } from '#src/base/clock.ts';
import type { AgentConfig } from './agent-config.ts';
import type { Agent } from './agent.ts';
import type { MetricState } from './metrics.ts';
import { servesSnapshots } from './node-mode.ts';
import type { WorkerPool } from './worker-pool.ts';

export async function metricState(
  agent: Agent,
  config: AgentConfig,
  store: PlaintextStore,
  pool: Pick<WorkerPool, 'size' | 'busy'>,
  version: string,
  clock: Clock,
): Promise<MetricState> {
  const { usedBytes, capacityBytes } = servesSnapshots(config.mode)
    ? await store.state()
    : { usedBytes: 0, capacityBytes: 0 };
  const { connected, lastContactMs } = agent.watch.state;
  const leases = agent.leases.all();
  const good = leases.filter((lease) => agent.leases.isGood(lease));
  const ends = good.map(({ claims }) => claims.expiresAtMs);
  const snapshots = Map.groupBy(agent.snapshotter.list(), ({ kind, store: place }) => `${kind} ${place}`);
  return {
    version,
    mode: config.mode,
    leases: counts(leases.map((lease) => lease.denial?.code ?? (good.includes(lease) ? 'VALID' : 'EXPIRED'))),
    nextLeaseEndSeconds: ends.length === 0 ? undefined : (Math.min(...ends) - clock.nowMs()) / 1000,
    licenses: counts(
      (agent.identity?.licenses ?? []).map(
        ({ licenseId }) => agent.refused.denialOf(licenseId)?.code ?? 'ACTIVE',
      ),
    ),
    keyServerConnected: connected,
    lastContactMs,
    certificateExpiresAtMs: agent.identity?.certificateExpiresAtMs ?? 0,
    plaintextBytes: usedBytes,
    plaintextCapacityBytes: capacityBytes,
    snapshots: [...snapshots].map(([name, group]) => {
      const [kind = '', place = ''] = name.split(' ');
      return { kind, store: place, count: group.length };
    }),
    workers: pool.size,
    workersBusy: pool.busy,
  };
}

function counts(values: readonly string[]): Map<string, number> {
  const counted = new Map<string, number>();
  for (const value of values) counted.set(value, (counted.get(value) ?? 0) + 1);
  return counted;
}

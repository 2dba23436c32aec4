/** What the `latchkey` command on this machine may ask of the agent. */
import type { AgentServer, StatusResponse } from '#src/wire/generated/latchkey/agent.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import type { PlaintextStore } from '../snapshotter/plaintext-store.ts';
import { type Snapshot, parseKey } from '../snapshotter/snapshot.ts';
import type { AgentConfig } from './agent-config.ts';
import type { Agent } from './agent.ts';
import { OverlaySweeper } from './overlay-sweeper.ts';
import { MODE_MEANINGS, servesSnapshots } from './node-mode.ts';

export interface AgentServiceParts {
  readonly agent: Agent;
  readonly config: AgentConfig;
  readonly store: PlaintextStore;
  readonly version: string;
}

/** Handlers for latchkey.agent.v1. */
export function agentService(parts: AgentServiceParts): AgentServer {
  const { agent } = parts;
  return {
    activate: unaryHandler(async ({ licenseKey }) => {
      const { identity, licenseId, productCode } = await agent.activate(licenseKey);
      const { nodeId, certificateExpiresAtMs } = identity;
      return { nodeId, licenseId, productCode, certificateExpiresAtMs };
    }),
    status: unaryHandler(() => status(parts)),
    dropPlaintext: unaryHandler(async () => {
      const { dropped, kept } = await agent.plaintext.dropUnused();
      return { droppedLayers: dropped, keptLayers: kept };
    }),
  };
}

async function status({ agent, config, store, version }: AgentServiceParts): Promise<StatusResponse> {
  const { usedBytes, capacityBytes } = servesSnapshots(config.mode)
    ? await store.state()
    : { usedBytes: 0, capacityBytes: 0 };
  const { connected, lastContactMs, revision } = agent.watch.state;
  const gated = agent.snapshotter.list().filter(({ gate, kind }) => gate !== null && kind === 'committed');
  const leases = agent.leases.all();
  return {
    version,
    nodeId: agent.identity?.nodeId ?? '',
    certificateExpiresAtMs: agent.identity?.certificateExpiresAtMs ?? 0,
    keyServer: config.keyServerAddress,
    keyServerConnected: connected,
    lastContactMs,
    revision,
    containerdVersion: await agent.containerd.version().catch(() => ''),
    mode: config.mode,
    modeProtects: MODE_MEANINGS[config.mode].protects,
    modeDoesNotProtect: MODE_MEANINGS[config.mode].doesNotProtect,
    leases: leases.map((lease) => ({
      leaseId: lease.claims.leaseId,
      licenseId: lease.claims.licenseId,
      imageDigest: lease.claims.imageDigest,
      imageKeyId: lease.claims.imageKeyId,
      expiresAtMs: lease.claims.expiresAtMs,
      auditSequence: lease.auditSequence,
      state: lease.denial?.code ?? (agent.leases.isGood(lease) ? 'VALID' : 'EXPIRED'),
    })),
    licenses: (agent.identity?.licenses ?? []).map(({ licenseId, productCode }) => ({
      licenseId,
      productCode,
      state: agent.refused.denialOf(licenseId)?.code ?? 'ACTIVE',
    })),
    gatedLayers:
      agent.plaintext instanceof OverlaySweeper
        ? await agent.plaintext.layers().catch(() => [])
        : await Promise.all(gated.map((snapshot) => layerStatus(agent, snapshot))),
    plaintextBytes: usedBytes,
    plaintextCapacityBytes: capacityBytes,
  };
}

async function layerStatus(agent: Agent, snapshot: Snapshot): Promise<StatusResponse['gatedLayers'][number]> {
  return {
    chainId: parseKey(snapshot.key).name,
    layerDigest: snapshot.layer?.digest ?? '',
    plaintextPresent: await agent.keeper.isPresent(snapshot),
    sizeBytes: snapshot.sizeBytes,
  };
}

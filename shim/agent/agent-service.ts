/** What the `latchkey` command on this machine may ask of the agent. */
import type { AgentServer } from '#src/wire/generated/latchkey/agent.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import type { PlaintextStore } from '../snapshotter/plaintext-store.ts';
import type { AgentConfig } from './agent-config.ts';
import type { Agent } from './agent.ts';
import { bundleStatus, nodeStatus } from './node-status.ts';
import type { StartDenial } from './start-record.ts';

export interface AgentServiceParts {
  readonly agent: Agent;
  readonly config: AgentConfig;
  readonly store: PlaintextStore;
  readonly version: string;
  /** The last ones, newest first. */
  readonly denials: () => readonly StartDenial[];
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
    status: unaryHandler(() => nodeStatus(parts)),
    requestOffline: unaryHandler(async ({ imageDigests }) => {
      const file = await agent.offline.requestOffline(imageDigests);
      return { file: Buffer.from(`${JSON.stringify(file)}\n`) };
    }),
    importOffline: unaryHandler(async ({ file }) => {
      const bundle = await agent.offline.importOffline(file);
      return { nodeId: bundle.claims.nodeId, bundle: bundleStatus({ ...bundle, starts: 0 }) };
    }),
    dropPlaintext: unaryHandler(async () => {
      const { dropped, kept } = await agent.plaintext.dropUnused();
      return { droppedLayers: dropped, keptLayers: kept };
    }),
    reportUsage: unaryHandler(async (usage) => {
      const { licenseId, total } = await agent.leases.keyServer().reportUsage(usage);
      return { licenseId, total };
    }),
    preflight: unaryHandler(async ({ imageDigest }) => {
      const { licenseId, productCode, version } = await agent.leases.preflight(imageDigest);
      return { nodeId: agent.identity?.nodeId ?? '', licenseId, productCode, version };
    }),
  };
}

/** The state of a node, for `latchkey node status`. */
import type { Digest } from '#src/oci/digest.ts';
import type {
  ContainerStatus,
  ImageStatus,
  OfflineBundleStatus,
  StatusResponse,
} from '#src/wire/generated/latchkey/agent.ts';
import { listImages } from '../containerd/images.ts';
import { type Snapshot, type SnapshotGateRecord, parseKey } from '../snapshotter/snapshot.ts';
import type { AgentServiceParts } from './agent-service.ts';
import type { Agent } from './agent.ts';
import { type GatedWorkload, gatesOf } from './gated-workloads.ts';
import { subjectKey } from './lease.ts';
import { MODE_MEANINGS, servesSnapshots } from './node-mode.ts';
import type { UsedBundle } from './offline-leases.ts';
import { OverlaySweeper } from './overlay-sweeper.ts';

export async function nodeStatus(parts: AgentServiceParts): Promise<StatusResponse> {
  const { agent, config, store, version } = parts;
  const { usedBytes, capacityBytes } = servesSnapshots(config.mode)
    ? await store.state()
    : { usedBytes: 0, capacityBytes: 0 };
  const { connected, lastContactMs, revision } = agent.watch.state;
  const snapshots = agent.snapshotter.list();
  const layers = snapshots.filter(({ gate, kind }) => gate !== null && kind === 'committed');
  const gatedLayers = await Promise.all(layers.map((snapshot) => layerStatus(agent, snapshot)));
  // Without containerd the rest is still worth knowing.
  const workloads = await agent.plaintext.running().catch(() => []);
  const names = await imageNames(agent).catch(() => new Map<string, string>());
  for (const { workload, chain } of workloads) {
    for (const { imageDigest } of gatesOf(chain)) {
      if (!names.has(imageDigest)) names.set(imageDigest, workload.image);
    }
  }
  return {
    version,
    nodeId: agent.identity?.nodeId ?? '',
    certificateExpiresAtMs: agent.identity?.certificateExpiresAtMs ?? 0,
    nodeKey: agent.nodeKeyPlace,
    offlineBundles: agent.offline.bundles.map(bundleStatus),
    keyServer: config.keyServerAddress,
    keyServerConnected: connected,
    lastContactMs,
    revision,
    containerdVersion: await agent.containerd.version().catch(() => ''),
    mode: config.mode,
    modeProtects: MODE_MEANINGS[config.mode].protects,
    modeDoesNotProtect: MODE_MEANINGS[config.mode].doesNotProtect,
    leases: agent.leases.all().map((lease) => ({
      leaseId: lease.claims.leaseId,
      licenseId: lease.claims.licenseId,
      imageDigest: lease.claims.imageDigest,
      imageKeyId: lease.claims.imageKeyId,
      expiresAtMs: lease.claims.expiresAtMs,
      auditSequence: lease.claims.receipt?.sequence ?? lease.auditSequence,
      token: lease.token,
      state: lease.denial?.code ?? agent.leases.stateOf(lease),
    })),
    licenses: (agent.identity?.licenses ?? []).map(({ licenseId, productCode, contact }) => ({
      licenseId,
      productCode,
      contact,
      state: agent.refused.denialOf(licenseId)?.code ?? 'ACTIVE',
      plaintextGoneAtMs: agent.refused.get(licenseId)?.plaintextGoneAtMs ?? 0,
    })),
    gatedLayers:
      agent.plaintext instanceof OverlaySweeper
        ? await agent.plaintext.layers().catch(() => [])
        : gatedLayers,
    images: imageStatuses(agent, layers, gatedLayers, names),
    containers: workloads.map(containerStatus),
    denials: parts.denials().map(({ timeMs, error, image, namespace, key }) => ({
      ...{ timeMs, code: error.code, licenseId: error.licenseId ?? '', imageDigest: image, namespace, key },
      reason: error.line,
    })),
    plaintextBytes: usedBytes,
    plaintextCapacityBytes: capacityBytes,
    snapshotCount: snapshots.length,
    gatedSnapshotCount: snapshots.filter((snapshot) => snapshot.store === 'memory').length,
  };
}

export function bundleStatus({ claims, starts }: Pick<UsedBundle, 'claims' | 'starts'>): OfflineBundleStatus {
  const { licenseId, productCode, sequence, expiresAtMs, releases, maxStarts = 0 } = claims;
  const leases = releases.reduce((sum, release) => sum + release.leases.length, 0);
  return { licenseId, productCode, sequence, leases, expiresAtMs, starts, maxStarts };
}

async function layerStatus(agent: Agent, snapshot: Snapshot): Promise<StatusResponse['gatedLayers'][number]> {
  return {
    chainId: parseKey(snapshot.key).name,
    layerDigest: snapshot.layer?.digest ?? '',
    plaintextPresent: agent.keeper.isPresent(snapshot),
    sizeBytes: snapshot.sizeBytes,
  };
}

/** By the digest of the manifest; a name that stands for an index is known from its containers only. */
async function imageNames(agent: Agent): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const namespace of await agent.containerd.namespaces()) {
    for (const { name, target } of await listImages(agent.containerd, namespace)) {
      // CRI also names each image by its digest.
      if (!names.has(target) && !name.startsWith('sha256:')) names.set(target, name);
    }
  }
  return names;
}

function imageStatuses(
  agent: Agent,
  layers: readonly Snapshot[],
  states: StatusResponse['gatedLayers'],
  names: ReadonlyMap<string, string>,
): ImageStatus[] {
  const images = new Map<string, { gate: SnapshotGateRecord; layers: StatusResponse['gatedLayers'] }>();
  for (const [index, { gate }] of layers.entries()) {
    const state = states[index];
    if (gate === null || state === undefined) continue;
    const image = images.get(subjectKey(gate)) ?? { gate, layers: [] };
    image.layers.push(state);
    images.set(subjectKey(gate), image);
  }
  return [...images.values()].map(({ gate, layers: own }) => {
    const present = own.filter(({ plaintextPresent }) => plaintextPresent);
    const license = agent.leases.find(gate)?.claims.licenseId ?? agent.images.of(gate)?.licenseId;
    return {
      digest: gate.imageDigest,
      name: names.get(gate.imageDigest) ?? '',
      licenseId: license ?? '',
      state: agent.standings.ofSubject(gate),
      layers: own.length,
      decryptedLayers: present.length,
      decryptedBytes: present.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    };
  });
}

function containerStatus({ workload, chain }: GatedWorkload): ContainerStatus {
  const { namespace, containerId, labels, createdAtMs, state, image } = workload;
  const [gate] = gatesOf(chain);
  const digest: Digest | undefined = gate?.imageDigest;
  const pod = labels['io.kubernetes.pod.name'];
  return {
    namespace,
    containerId,
    pod: pod === undefined ? '' : `${labels['io.kubernetes.pod.namespace'] ?? ''}/${pod}`,
    image,
    imageDigest: digest ?? '',
    createdAtMs,
    state,
  };
}

/** The gate rule, and the snapshotter's other questions, answered from the leases, the index and containerd. */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { Mount } from '#src/wire/generated/containerd/types.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import { applyLayer, keepLayerBlob } from '../containerd/unpack.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import type { CapacitySetting } from '../snapshotter/plaintext-store.ts';
import type { ExtractionOutcome, LayerIdentity, SnapshotGate } from '../snapshotter/gate.ts';
import { type SnapshotGateRecord, type SnapshotLayer, parseKey } from '../snapshotter/snapshot.ts';
import { BlobKeeper } from './blob-keeper.ts';
import type { ContainerGuard } from './container-guard.ts';
import type { ExtractionLedger } from './extraction-ledger.ts';
import type { HeldLease } from './held-lease.ts';
import type { ImageGuard } from './image-guard.ts';
import type { LayerIndex } from './layer-index.ts';
import { mostTelling } from './denial-choice.ts';
import { subjectKey } from './lease.ts';

export interface ContainerdGateParts {
  readonly containerd: ContainerdConnection;
  readonly index: LayerIndex;
  readonly guard: ImageGuard;
  readonly containers: ContainerGuard;
  readonly ledger: ExtractionLedger;
  /** Of the plaintext store. */
  readonly capacitySetting: CapacitySetting;
  readonly onRefusedLate: () => void;
  /** An encrypted layer is about to be unpacked. */
  readonly onExtraction: () => void;
  /** A layer was made again from its blob. */
  readonly onRestored: () => void;
  readonly onKeepBlobFailed: (layer: SnapshotLayer, error: LatchkeyError) => void;
}

export class ContainerdGate implements SnapshotGate {
  readonly #parts: ContainerdGateParts;
  readonly #blobs: BlobKeeper;

  constructor(parts: ContainerdGateParts) {
    this.#parts = parts;
    this.#blobs = new BlobKeeper({
      tie: (namespace, chainId, { digest }) =>
        keepLayerBlob(parts.containerd, SNAPSHOTTER_NAME, namespace, chainId, digest),
      onFailed: parts.onKeepBlobFailed,
    });
  }

  async identify(namespace: string, chainId: Digest): Promise<LayerIdentity | undefined> {
    await this.#parts.containerd.untilReachable();
    return this.#parts.index.identify(namespace, chainId);
  }

  authorize(groups: readonly (readonly SnapshotGateRecord[])[]): Promise<SnapshotGateRecord[]> {
    return this.#authorize(groups, () => Promise.resolve([]));
  }

  authorizeLayers(records: readonly SnapshotGateRecord[]): Promise<SnapshotGateRecord[]> {
    // Without containerd nobody can tell; then it stays refused.
    const othersLike = ({ blob }: SnapshotGateRecord): Promise<SnapshotGateRecord[]> =>
      this.#parts.index.recordsOfBlob(blob.digest).catch(() => []);
    return this.#authorize(
      records.map((record) => [record]),
      othersLike,
    );
  }

  async #authorize(
    groups: readonly (readonly SnapshotGateRecord[])[],
    othersLike: (record: SnapshotGateRecord) => Promise<readonly SnapshotGateRecord[]>,
  ): Promise<SnapshotGateRecord[]> {
    const allowed: SnapshotGateRecord[] = [];
    let isCleared = this.#parts.guard.clearance();
    for (const group of groups) {
      // Those with a lease already come first: asking for each forged one would only cost time.
      const held = group.find(isCleared);
      allowed.push(held ?? (await this.#askForOne(group, othersLike)));
      if (held === undefined) isCleared = this.#parts.guard.clearance();
    }
    return allowed;
  }

  authorizeStart(
    namespace: string,
    topChainId: Digest,
    records: readonly SnapshotGateRecord[],
  ): Promise<void> {
    return this.#parts.guard.requireReleasedChain(namespace, topChainId, records);
  }

  foreseeContainers(snapshotKey: string, topChainId: Digest): void {
    const { namespace, name } = parseKey(snapshotKey);
    this.#parts.containers.foresee({ namespace, snapshotKey: name, topChainId });
  }

  async admitContainers(snapshotKey: string, topChainId: Digest, wasAdmitted: boolean): Promise<boolean> {
    await this.#parts.containerd.untilReachable();
    const { namespace, name } = parseKey(snapshotKey);
    const start = { namespace, snapshotKey: name, topChainId, wasAdmitted };
    if (!(await this.#parts.containers.admit(start))) return false;
    const refusal = (await this.#leaseOf(snapshotKey, topChainId)).carried?.startRefusal();
    if (refusal !== undefined) throw refusal;
    return true;
  }

  async countStart(snapshotKey: string, topChainId: Digest): Promise<void> {
    await (await this.#leaseOf(snapshotKey, topChainId)).carried?.countStart();
  }

  /** Of the image of the container on a snapshot; of any with its layers where the node has forgotten that image. */
  async #leaseOf(snapshotKey: string, topChainId: Digest): Promise<HeldLease> {
    const { namespace, name } = parseKey(snapshotKey);
    const { containers, guard } = this.#parts;
    const manifest = containers.admittedManifest(namespace, name);
    const lease =
      (await guard.findReleased(namespace, topChainId, manifest)) ??
      (await guard.findReleased(namespace, topChainId, undefined));
    if (lease !== undefined) return lease;
    throw new LatchkeyError('DENIED_LEASE_EXPIRED', 'the lease ended while the container was started');
  }

  refusedLate(): void {
    this.#parts.onRefusedLate();
  }

  openExtraction(token: string, identity: LayerIdentity): void {
    this.#parts.ledger.open(token, identity);
    if (identity.encryptedIn.length > 0) this.#parts.onExtraction();
    const { namespace } = identity.layer;
    // The processor comes once containerd has entered the snapshot and started it.
    this.#parts.index.foresee(
      namespace,
      identity.encryptedIn.map(({ blob }) => blob.digest),
    );
  }

  closeExtraction(token: string): ExtractionOutcome {
    return this.#parts.ledger.close(token);
  }

  async apply(layer: SnapshotLayer, mounts: readonly Mount[]): Promise<void> {
    await applyLayer(this.#parts.containerd, layer, mounts, this.#parts.capacitySetting);
    this.#parts.onRestored();
  }

  keepBlob(namespace: string, chainId: string, layer: SnapshotLayer): void {
    this.#blobs.keep(namespace, chainId, layer);
  }

  stop(): void {
    this.#blobs.stop();
  }

  async #askForOne(
    group: readonly SnapshotGateRecord[],
    othersLike: (record: SnapshotGateRecord) => Promise<readonly SnapshotGateRecord[]>,
  ): Promise<SnapshotGateRecord> {
    const denials: LatchkeyError[] = [];
    const askFor = async (
      records: readonly SnapshotGateRecord[],
    ): Promise<SnapshotGateRecord | undefined> => {
      for (const record of records) {
        try {
          await this.#parts.guard.require(record);
          return record;
        } catch (error) {
          denials.push(toLatchkeyError(error));
        }
      }
      return undefined;
    };
    const own = await askFor(group);
    if (own !== undefined) return own;
    const asked = new Set(group.map((record) => subjectKey(record)));
    for (const record of group) {
      const others = await othersLike(record);
      const another = await askFor(others.filter((other) => !asked.has(subjectKey(other))));
      if (another !== undefined) return another;
    }
    throw mostTelling(denials) ?? new TypeError('a group without records');
  }
}

/** A snapshot gate that a test decides for; extractions are kept in the agent's real ledger. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LatchkeyError } from '#src/base/errors.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import type { Mount } from '#src/wire/generated/containerd/types.ts';
import { ExtractionLedger } from '../../shim/agent/extraction-ledger.ts';
import type { ExtractionOutcome, LayerIdentity, SnapshotGate } from '../../shim/snapshotter/gate.ts';
import type { SnapshotGateRecord, SnapshotLayer } from '../../shim/snapshotter/snapshot.ts';

export const NAMESPACE = 'k8s.io';
const ENCRYPTED_LAYER = 'application/vnd.oci.image.layer.v1.tar+encrypted';

export interface FakeLayer {
  readonly chainId: Digest;
  readonly identity: LayerIdentity;
}

/** A layer by a name; its digests are made from it. */
export function fakeLayer(
  name: string,
  kind: 'plain' | 'encrypted' | 'encrypted-with-plain-twin',
): FakeLayer {
  const encrypted = kind !== 'plain';
  return {
    chainId: digestOf(`chain ${name}`),
    identity: {
      layer: {
        namespace: NAMESPACE,
        digest: digestOf(`blob ${name}`),
        mediaType: encrypted ? ENCRYPTED_LAYER : 'application/vnd.oci.image.layer.v1.tar',
        sizeBytes: 1000,
        diffId: digestOf(`content ${name}`),
        encrypted,
      },
      encryptedIn: encrypted ? [gateRecord(name)] : [],
      imageSizeBytes: 1000,
      plainTwin: kind === 'encrypted-with-plain-twin',
    },
  };
}

export function gateRecord(name: string): SnapshotGateRecord {
  return {
    imageKeyId: `key of ${name}`,
    imageDigest: digestOf(`image ${name}`),
    contact: 'license@acme.example',
    element: 'e30=',
    publicOptions: 'e30=',
    blob: { digest: digestOf(`blob ${name}`), mediaType: ENCRYPTED_LAYER, sizeBytes: 1000 },
  };
}

export class ScriptedGate implements SnapshotGate {
  readonly ledger = new ExtractionLedger();
  readonly layers: FakeLayer[] = [];
  /** Raised by every authorization while set. */
  denial: LatchkeyError | undefined;
  /** By whose key every layer is allowed that was unpacked before, while set. */
  takenOverBy: SnapshotGateRecord | undefined;
  /** Raised for every start, not for unpacking, while set. */
  startDenial: LatchkeyError | undefined;
  readonly started: Digest[] = [];
  readonly foreseen: { snapshotKey: string; topChainId: Digest }[] = [];
  /** True once there is a container on the snapshot that is asked about. */
  hasContainer = false;
  /** Raised for every container while set. */
  containerDenial: LatchkeyError | undefined;
  /** Snapshots whose starts were counted. */
  readonly countedStarts: string[] = [];
  /** Raised for every start that is to be counted, while set. */
  countDenial: LatchkeyError | undefined;
  /** Raised by every apply while set, after it has written something. */
  applyFailure: Error | undefined;
  refusedLateCount = 0;
  /** Runs while a layer is being unpacked again. */
  onApply: (() => void) | undefined;
  readonly authorized: (readonly SnapshotGateRecord[])[][] = [];
  readonly opened: LayerIdentity[] = [];
  readonly applied: { layer: SnapshotLayer; mounts: readonly Mount[] }[] = [];
  readonly kept: { namespace: string; chainId: string }[] = [];

  identify(_namespace: string, chainId: Digest): Promise<LayerIdentity | undefined> {
    return Promise.resolve(this.layers.find((layer) => layer.chainId === chainId)?.identity);
  }

  authorize(groups: readonly (readonly SnapshotGateRecord[])[]): Promise<SnapshotGateRecord[]> {
    this.authorized.push([...groups]);
    if (this.denial !== undefined) return Promise.reject(this.denial);
    return Promise.resolve(groups.flatMap((group) => group.slice(0, 1)));
  }

  authorizeLayers(records: readonly SnapshotGateRecord[]): Promise<SnapshotGateRecord[]> {
    return this.authorize(records.map((record) => [this.takenOverBy ?? record]));
  }

  authorizeStart(_namespace: string, topChainId: Digest): Promise<void> {
    this.started.push(topChainId);
    return this.startDenial === undefined ? Promise.resolve() : Promise.reject(this.startDenial);
  }

  foreseeContainers(snapshotKey: string, topChainId: Digest): void {
    this.foreseen.push({ snapshotKey, topChainId });
  }

  admitContainers(): Promise<boolean> {
    if (this.containerDenial !== undefined) return Promise.reject(this.containerDenial);
    return Promise.resolve(this.hasContainer);
  }

  countStart(snapshotKey: string): Promise<void> {
    if (this.countDenial !== undefined) return Promise.reject(this.countDenial);
    this.countedStarts.push(snapshotKey);
    return Promise.resolve();
  }

  refusedLate(): void {
    this.refusedLateCount += 1;
  }

  openExtraction(token: string, identity: LayerIdentity): void {
    this.opened.push(identity);
    this.ledger.open(token, identity);
  }

  closeExtraction(token: string): ExtractionOutcome {
    return this.ledger.close(token);
  }

  /** Writes a file named by the layer's diff ID, as unpacking would write the layer's files. */
  async apply(layer: SnapshotLayer, mounts: readonly Mount[]): Promise<void> {
    this.applied.push({ layer, mounts });
    this.onApply?.();
    const directory = upperDirectory(mounts);
    await writeFile(join(directory, 'half-done'), '');
    // Others that want the same layer come in the meantime.
    await new Promise((resolve) => setImmediate(resolve));
    if (this.applyFailure !== undefined) throw this.applyFailure;
    await writeFile(join(directory, 'content'), layer.diffId);
  }

  keepBlob(namespace: string, chainId: string): void {
    this.kept.push({ namespace, chainId });
  }

  /** What the stream processor does: takes the key of the open extractions and, if all is well, verifies. */
  decrypt(verifies = true): void {
    for (const { token, identity } of this.ledger.unclaimed()) {
      this.ledger.claim(token);
      if (verifies) this.ledger.markVerified(token, identity.encryptedIn[0]!);
    }
  }
}

/** Where writes to these mounts go. */
export function upperDirectory(mounts: readonly Mount[]): string {
  const [mount] = mounts;
  if (mount?.type === 'bind') return mount.source;
  const upper = mount?.options.find((option) => option.startsWith('upperdir='));
  if (upper === undefined) throw new TypeError('the mounts are not for writing');
  return upper.slice('upperdir='.length);
}

/** The directories below these mounts, nearest first. */
export function lowerDirectories(mounts: readonly Mount[]): string[] {
  const lower = mounts[0]?.options.find((option) => option.startsWith('lowerdir='));
  return lower === undefined ? [] : lower.slice('lowerdir='.length).split(':');
}

/** Writes what containerd would unpack. */
export async function unpackInto(mounts: readonly Mount[], text: string): Promise<void> {
  const directory = upperDirectory(mounts);
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'content'), text);
}

/** What the snapshotter asks of the agent: may this be unpacked, may this be started. */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { Mount } from '#src/wire/generated/containerd/types.ts';
import type { SnapshotGateRecord, SnapshotLayer } from './snapshot.ts';

/** The layer behind a chain ID that is about to be unpacked. */
export interface LayerIdentity {
  readonly layer: SnapshotLayer;
  /**
   * The keys to it, from every image that holds it in encrypted form; empty for a plain layer. Anybody can write a
   * manifest that claims a chain ID, so each names its own blob, and a valid lease decides which one counts.
   */
  readonly encryptedIn: readonly SnapshotGateRecord[];
  /** Of the blobs from this layer up to the image's top: the least that the rest of the image will need. */
  readonly imageSizeBytes: number;
  /** True when some image on this node holds the same layer unencrypted. */
  readonly plainTwin: boolean;
}

/** How an unpacking ended, as far as keys go. */
export type ExtractionOutcome =
  /** Never opened, or opened before the agent was restarted. */
  | { readonly state: 'unknown' }
  /** Nobody asked for the key. */
  | { readonly state: 'no-key' }
  /** The key was refused, or was given and the content did not verify; the reason, where it is known. */
  | { readonly state: 'unverified'; readonly reason: LatchkeyError | undefined }
  | { readonly state: 'verified'; readonly gate: SnapshotGateRecord };

export interface SnapshotGate {
  /** Looks the chain ID up in the images of that namespace; undefined when no image there has it. */
  identify(namespace: string, chainId: Digest): Promise<LayerIdentity | undefined>;
  /**
   * Resolves when a start from an image is allowed: one of the records of each group must have a valid lease.
   * @returns for each group the record that has one
   * @throws LatchkeyError DENIED_*
   */
  authorize(groups: readonly (readonly SnapshotGateRecord[])[]): Promise<SnapshotGateRecord[]>;
  /**
   * Resolves when layers that were unpacked before may be used: each under its own record or, where that is refused, under
   * one of another image on this node that holds the same encrypted layer.
   * @returns for each layer the record that has a lease
   * @throws LatchkeyError DENIED_*
   */
  authorizeLayers(records: readonly SnapshotGateRecord[]): Promise<SnapshotGateRecord[]>;
  /**
   * Resolves when the image whose layers end with this chain ID is one that was released.
   * @param records of the gated layers in it, which are authorized
   * @throws LatchkeyError DENIED_*
   */
  authorizeStart(
    namespace: string,
    topChainId: Digest,
    records: readonly SnapshotGateRecord[],
  ): Promise<void>;
  /** A snapshot is made for a container to come: a chance to ask ahead. Never fails. */
  foreseeContainers(snapshotKey: string, topChainId: Digest): void;
  /**
   * Resolves when the containers on a snapshot, if there are any yet, are of a released image.
   * @param topChainId of the image's layers below it
   * @param wasAdmitted what this said for the same snapshot before, if it was asked
   * @returns true when there was a container to tell by
   * @throws LatchkeyError DENIED_IMAGE_ALTERED, DENIED_OFFLINE_STARTS
   */
  admitContainers(snapshotKey: string, topChainId: Digest, wasAdmitted: boolean): Promise<boolean>;
  /**
   * Resolves when the start of a container that was admitted is counted, where starts are; its layers are there.
   * containerd asks for mounts with a container on them once for each of its starts.
   * @throws LatchkeyError DENIED_OFFLINE_STARTS, STORAGE_*
   */
  countStart(snapshotKey: string, topChainId: Digest): Promise<void>;
  /** A start was refused after its layers had been made; they are dropped if nobody else may use them. */
  refusedLate(): void;
  /** An unpacking begins; a stream processor may get a key of its identity, once, under this token. */
  openExtraction(token: string, identity: LayerIdentity): void;
  /** Ends it and says whether a key was given and the content verified. */
  closeExtraction(token: string): ExtractionOutcome;
  /**
   * Has containerd unpack a layer's blob onto the mounts.
   * @throws LatchkeyError when the key is refused, the blob is gone or the content differs
   */
  apply(layer: SnapshotLayer, mounts: readonly Mount[]): Promise<void>;
  /** Keeps a layer's encrypted blob alive as long as the snapshot; never fails the caller. */
  keepBlob(namespace: string, chainId: string, layer: SnapshotLayer): void;
}

/** Which chain IDs of a namespace stand on encrypted layers. Pure. */
import type { Digest } from '#src/oci/digest.ts';
import type { ContainerdSnapshot } from '../containerd/snapshots.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import { type IndexedImage, recordsOfLayer } from './indexed-image.ts';
import { subjectKey } from './lease.ts';

/** A chain of layers of which at least one is encrypted for Latchkey. */
export interface SecretChain {
  /** The blobs that its topmost layer is unpacked from. */
  readonly blobs: readonly Digest[];
  /** True when some image claims to have it without encryption; anybody can write such a manifest. */
  readonly isPlainToo: boolean;
  readonly images: readonly SecretImage[];
}

export interface SecretImage {
  readonly manifest: Digest;
  readonly config: Digest;
  /** Its keys to the encrypted layers of the chain. */
  readonly records: readonly SnapshotGateRecord[];
}

/** A plain layer on top of an encrypted one belongs to the chain: it has to go before the one below can. */
export function secretChains(images: readonly IndexedImage[]): Map<Digest, SecretChain> {
  const chains = new Map<Digest, SecretChain>();
  const plain = new Set<Digest>();
  for (const image of images) {
    const { digest: manifest, config } = image;
    const firstEncrypted = image.layers.findIndex(({ elements }) => elements.length > 0);
    const records: SnapshotGateRecord[] = [];
    for (const [place, layer] of image.layers.entries()) {
      if (firstEncrypted === -1 || place < firstEncrypted) {
        plain.add(layer.chainId);
        continue;
      }
      records.push(...recordsOfLayer(image, layer));
      const known = chains.get(layer.chainId);
      chains.set(layer.chainId, {
        blobs: [...(known?.blobs ?? []), layer.digest],
        isPlainToo: false,
        images: [...(known?.images ?? []), { manifest, config, records: [...records] }],
      });
    }
  }
  return new Map([...chains].map(([id, chain]) => [id, { ...chain, isPlainToo: plain.has(id) }]));
}

/** The snapshots that are the chains themselves. */
export function snapshotsOnSecrets(
  snapshots: readonly ContainerdSnapshot[],
  chains: ReadonlyMap<string, SecretChain>,
): ContainerdSnapshot[] {
  return snapshots.filter(({ name }) => chains.has(name));
}

/** The keys behind a snapshot, of the images that it may have been made from: of each image and key one record. */
export function recordsOf(
  name: string,
  snapshots: readonly ContainerdSnapshot[],
  chains: ReadonlyMap<string, SecretChain>,
): SnapshotGateRecord[] {
  const parents = new Map(snapshots.map((snapshot) => [snapshot.name, snapshot.parent]));
  let current: string | undefined = name;
  while (current !== undefined && !chains.has(current)) current = parents.get(current);
  const records = chains.get(current ?? '')?.images.flatMap((image) => image.records) ?? [];
  return [...new Map(records.map((record) => [subjectKey(record), record])).values()];
}

/**
 * Under a stock snapshotter plaintext is on the disk, and while it is there starts ask nobody. So it is taken away as
 * soon as no container stands on it: containerd then unpacks again at the next start, through the stream processor,
 * which asks. The files are unlinked, not erased.
 */
import type { Clock } from '#src/base/clock.ts';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';
import { isDigest } from '#src/oci/digest.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import { blobLabels, hasBlob } from '../containerd/content.ts';
import {
  type ContainerdSnapshot,
  collectGarbage,
  listSnapshots,
  removeSnapshot,
} from '../containerd/snapshots.ts';
import { keepLayerBlob, keepsBlob } from '../containerd/unpack.ts';
import { type Workload, runningWorkloads } from '../containerd/workloads.ts';
import type { LayerIndex } from './layer-index.ts';
import type { GatedWorkload } from './gated-workloads.ts';
import type { DropResult, HeldChain, PlaintextHolder } from './plaintext-holder.ts';
import type { Standing, Standings } from './standing.ts';
import { type SecretChain, type SecretImage, snapshotsOnSecrets, recordsOf } from './secret-chains.ts';
import { type ChainFate, planSweep } from './sweep-plan.ts';

/** From the unpacking of an image to the container that is made from it; whoever takes longer unpacks again. */
export const SETTLE_MS = 10_000;
/** containerd notes with an image's config where it is unpacked (client, Unpack). */
const UNPACKED_LABEL = 'containerd.io/gc.ref.snapshot.';
const DEFAULT_SNAPSHOTTER = 'overlayfs';

export interface OverlaySweeperParts {
  readonly containerd: ContainerdConnection;
  readonly index: Pick<LayerIndex, 'secretChains'>;
  readonly standings: Standings;
  readonly clock: Clock;
}

/** A layer of an encrypted image that is on the disk in the clear. */
export interface PlainSnapshot {
  readonly chainId: string;
  readonly layerDigest: string;
  readonly plaintextPresent: true;
  /** Not counted. */
  readonly sizeBytes: 0;
}

/** One snapshotter in one namespace, as far as it holds encrypted images. */
interface Place {
  readonly namespace: string;
  readonly snapshotter: string;
  readonly chains: ReadonlyMap<string, SecretChain>;
  readonly snapshots: readonly ContainerdSnapshot[];
}

export class OverlaySweeper implements PlaintextHolder {
  readonly #parts: OverlaySweeperParts;
  readonly #oneAtATime = new KeyedMutex<string>();

  constructor(parts: OverlaySweeperParts) {
    this.#parts = parts;
  }

  /** Removes what no container stands on and, of refused images, what no running one does. */
  sweep(): Promise<DropResult> {
    return this.#oneAtATime.run('sweep', () => this.#sweep(SETTLE_MS));
  }

  /** The same, also when it has just been unpacked. */
  dropUnused(): Promise<DropResult> {
    return this.#oneAtATime.run('sweep', () => this.#sweep(0));
  }

  /** Of the images that a container may be of, those with a lease count if there are any: manifests can be forged. */
  async running(): Promise<GatedWorkload[]> {
    const running = await runningWorkloads(this.#parts.containerd);
    if (running.length === 0) return [];
    return (await this.#places()).flatMap(({ namespace, snapshotter, chains, snapshots }) =>
      running.flatMap((workload) => {
        if (workload.namespace !== namespace || workload.snapshotter !== snapshotter) return [];
        const gates = recordsOf(workload.snapshotKey, snapshots, chains);
        const licensed = gates.filter((gate) => this.#parts.standings.ofSubject(gate) === 'licensed');
        const chain = (licensed.length > 0 ? licensed : gates).map((gate) => ({ gate }));
        return chain.length === 0 ? [] : [{ workload, chain }];
      }),
    );
  }

  async chains(): Promise<HeldChain[]> {
    return (await this.#places()).flatMap(({ chains, snapshots }) =>
      snapshots.map(({ name }) => ({
        chain: recordsOf(name, snapshots, chains).map((gate) => ({ gate })),
        isWritten: false,
        isPresent: () => true,
      })),
    );
  }

  /** The layers of encrypted images that are on the disk. */
  async layers(): Promise<PlainSnapshot[]> {
    return (await this.#places()).flatMap(({ chains, snapshots }) =>
      snapshots.flatMap(({ name }) => {
        const chain = chains.get(name);
        if (chain === undefined) return [];
        return [{ chainId: name, layerDigest: chain.blobs[0] ?? '', plaintextPresent: true, sizeBytes: 0 }];
      }),
    );
  }

  async #sweep(settleMs: number): Promise<DropResult> {
    const running = await runningWorkloads(this.#parts.containerd);
    const result = { dropped: 0, kept: 0 };
    for (const place of await this.#places()) {
      const removed = await this.#sweepPlace(place, running, settleMs);
      const secret = snapshotsOnSecrets(place.snapshots, place.chains);
      result.dropped += removed.size;
      result.kept += secret.length - removed.size;
      await this.#keepImages(place, removed);
      // The files are still there until then.
      if (removed.size > 0) await collectGarbage(this.#parts.containerd, place.namespace);
    }
    return result;
  }

  async #sweepPlace(
    { namespace, snapshotter, chains, snapshots }: Place,
    running: readonly Workload[],
    settleMs: number,
  ): Promise<Set<string>> {
    const { containerd, clock } = this.#parts;
    const used = running.filter(
      (workload) => workload.namespace === namespace && workload.snapshotter === snapshotter,
    );
    const fateOf = (name: string): ChainFate | undefined => {
      const chain = chains.get(name);
      return chain === undefined ? undefined : this.#fateOf(chain);
    };
    const plan = planSweep({
      snapshots,
      fateOf,
      running: new Set(used.map(({ snapshotKey }) => snapshotKey)),
      committedBeforeMs: clock.nowMs() - settleMs,
    });
    const removed = new Set<string>();
    for (const name of plan) {
      const chain = chains.get(name);
      // Without its blob it could not be made again; what is below stays with it, as containerd insists.
      if (
        chain !== undefined &&
        fateOf(name) === 'due' &&
        !(await this.#canBeUnpackedAgain(namespace, chain))
      )
        continue;
      if (await removeSnapshot(containerd, namespace, snapshotter, name)) removed.add(name);
    }
    return removed;
  }

  /** An image stands as the worst of its keys. */
  #standingOf({ records }: SecretImage): Standing {
    const each = records.map((record) => this.#parts.standings.ofSubject(record));
    return (
      (['refused', 'denied', 'no-lease'] as const).find((standing) => each.includes(standing)) ?? 'licensed'
    );
  }

  /** A chain stands as the best of its images. */
  #fateOf({ images, isPlainToo }: SecretChain): ChainFate {
    const standings = images.map((image) => this.#standingOf(image));
    const isRefused = standings.includes('refused') && !standings.includes('licensed');
    // What is public may be in use by others. It goes too when nobody uses it: the claim may be a lie.
    return isRefused && !isPlainToo ? 'refused' : 'due';
  }

  async #canBeUnpackedAgain(namespace: string, { blobs }: SecretChain): Promise<boolean> {
    for (const blob of blobs) {
      if (isDigest(blob) && (await hasBlob(this.#parts.containerd, namespace, blob))) return true;
    }
    return false;
  }

  /**
   * An image that is deleted while a container runs from it would be forgotten, and a revocation would not find the
   * container. So containerd keeps the manifest, and what belongs to it, as long as the snapshot.
   */
  async #keepImages(place: Place, removed: ReadonlySet<string>): Promise<void> {
    const { namespace, snapshotter, chains, snapshots } = place;
    for (const { name, labels } of snapshots) {
      if (removed.has(name) || keepsBlob(labels)) continue;
      // Somebody may have written a manifest of his own around the same layers.
      const images = chains.get(name)?.images ?? [];
      const manifest = (images.find((image) => this.#standingOf(image) === 'licensed') ?? images[0])
        ?.manifest;
      if (manifest === undefined) continue;
      await keepLayerBlob(this.#parts.containerd, snapshotter, namespace, name, manifest);
    }
  }

  async #places(): Promise<Place[]> {
    const { containerd, index } = this.#parts;
    const places: Place[] = [];
    for (const namespace of await containerd.namespaces()) {
      const chains = await index.secretChains(namespace);
      if (chains.size === 0) continue;
      for (const snapshotter of await this.#snapshottersOf(namespace, chains)) {
        const snapshots = await listSnapshots(containerd, namespace, snapshotter);
        places.push({ namespace, snapshotter, chains, snapshots });
      }
    }
    return places;
  }

  async #snapshottersOf(namespace: string, chains: ReadonlyMap<string, SecretChain>): Promise<Set<string>> {
    const configs = new Set([...chains.values()].flatMap(({ images }) => images.map(({ config }) => config)));
    const found = new Set([DEFAULT_SNAPSHOTTER]);
    for (const config of configs) {
      const labels = (await blobLabels(this.#parts.containerd, namespace, config)) ?? {};
      for (const label of Object.keys(labels)) {
        if (label.startsWith(UNPACKED_LABEL)) found.add(label.slice(UNPACKED_LABEL.length));
      }
    }
    return found;
  }
}

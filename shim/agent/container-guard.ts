/**
 * A container may stand on the layers of a released image and still be of another one: whoever knows the public config
 * can push an image with the same diff IDs around layers of his own, and containerd takes the unpacked ones for it. So at a
 * start the image that the container names must be a released one as well, in manifest, config and platform.
 */
import { BoundedMap } from '#src/base/bounded-map.ts';
import type { LatchkeyError } from '#src/base/errors.ts';
import { type FoundImage, imageAlterations } from '#src/image/statement-match.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { Platform } from '#src/oci/platform.ts';
import type { ContainerRecord } from '../containerd/containers.ts';
import type { HeldLease } from './held-lease.ts';
import { altered } from './image-guard.ts';
import type { VolumeClaim } from './volume-claims.ts';

/** Of starts, and of chains; whose first mounts or image name is forgotten costs a question more. */
const MAX_REMEMBERED = 1000;

type Claims = readonly VolumeClaim[];

/** A name, and what it stood for when a start was looked at. */
interface ImageName {
  readonly name: string;
  readonly manifests: readonly Digest[] | undefined;
}

/** What containerd says about containers and the images they name. */
export interface ContainerSource {
  containersOn(namespace: string, snapshotKey: string): Promise<readonly ContainerRecord[]>;
  /** Digests of the manifests that a name may stand for on this node; undefined when the name is gone. */
  manifestsOf(namespace: string, imageName: string): Promise<readonly Digest[] | undefined>;
  /** The images of a namespace whose layers end with a chain ID. */
  imagesOn(namespace: string, topChainId: Digest): Promise<readonly FoundImage[]>;
  /** Images of a namespace that claim a chain and have volumes, which Kubernetes fills on the disk. */
  volumesOn(namespace: string, topChainId: Digest): Promise<Claims>;
  /** Undefined when the node no longer has the documents of the image. */
  image(digest: Digest): Promise<FoundImage | undefined>;
}

/** Finds the lease of a released image by its chain; see ImageGuard. */
export interface ReleaseSource {
  findReleased(
    namespace: string,
    topChainId: Digest,
    manifest: Digest | undefined,
  ): Promise<HeldLease | undefined>;
}

export interface StartingContainer {
  readonly namespace: string;
  readonly snapshotKey: string;
  readonly topChainId: Digest;
  /** True when a container on this snapshot has been let in before. */
  readonly wasAdmitted: boolean;
}

export class ContainerGuard {
  readonly #source: ContainerSource;
  readonly #releases: ReleaseSource;
  readonly #platform: Pick<Platform, 'os' | 'architecture'>;
  /** Snapshots that a start has come to: what was asked ahead for the first mounts, or that they were given. */
  readonly #starts = new BoundedMap<string, Promise<Claims | undefined> | 'mounted'>(MAX_REMEMBERED);
  /** The image name that the last container on a chain was made with: the next one's, as a rule. */
  readonly #lastNames = new BoundedMap<string, string>(MAX_REMEMBERED);

  /** By which containers on snapshots were let in last. */
  readonly #manifests = new BoundedMap<string, Digest>(MAX_REMEMBERED);

  /** @param platform of this node */
  constructor(
    source: ContainerSource,
    releases: ReleaseSource,
    platform: Pick<Platform, 'os' | 'architecture'>,
  ) {
    this.#source = source;
    this.#releases = releases;
    this.#platform = platform;
  }

  /**
   * A container is about to be made on a snapshot: asks ahead what its first mounts will be judged by. Its image is on the
   * node by now, as it was looked up before. Never fails.
   */
  foresee({ namespace, snapshotKey, topChainId }: Omit<StartingContainer, 'wasAdmitted'>): void {
    // What fails is asked again.
    const claims = this.#source.volumesOn(namespace, topChainId).catch(() => undefined);
    this.#starts.set(`${namespace}/${snapshotKey}`, claims);
  }

  /**
   * Resolves when every container on the snapshot is of a released image; containerd asks for the mounts of one before
   * there is a container as well, and then nobody can tell.
   * @returns true when there was a container to tell by
   * @throws LatchkeyError DENIED_IMAGE_ALTERED
   */
  async admit(start: StartingContainer): Promise<boolean> {
    const { namespace, snapshotKey, topChainId, wasAdmitted } = start;
    const name = `${namespace}/${snapshotKey}`;
    const known = this.#starts.get(name);
    const foreseen = known === 'mounted' ? undefined : known;
    const isFirst = !wasAdmitted && known !== 'mounted';
    if (isFirst) this.#starts.set(name, 'mounted');
    // There is no container yet when the mounts are asked for first, as a rule; then both answers are wanted, and later
    // what the container names. Asked for at once, as each answer of containerd takes most of a millisecond.
    const [containers, claims, expected] = await Promise.all([
      this.#source.containersOn(namespace, snapshotKey),
      isFirst ? this.#claims(start, foreseen) : undefined,
      isFirst ? undefined : this.#expectedName(start),
    ]);
    for (const container of containers) {
      await this.#admitOne(start, container, expected);
      this.#lastNames.set(`${namespace}/${topChainId}`, container.image);
    }
    if (containers.length > 0) return true;
    const foreign = claims ?? (wasAdmitted ? [] : await this.#source.volumesOn(namespace, topChainId));
    await this.#requireNoForeignVolumes(start, foreign);
    return false;
  }

  /**
   * Before there is a container, Kubernetes mounts its root to copy what the image has in its volumes onto the disk
   * (pkg/cri/server/container_create.go, WithVolumes). A stranger's config may call any directory a volume. One with the
   * released config calls the same ones: the image, encrypted for others.
   */
  async #requireNoForeignVolumes(start: StartingContainer, claims: Claims): Promise<void> {
    for (const { manifest, config } of claims) {
      if ((await this.#isReleased(start, manifest)) || (await this.#isReleasedConfig(start, config)))
        continue;
      const reason = `${manifest} has its layers and declares volumes, whose content would be put on the disk`;
      throw await this.#refusal(start, reason, 'remove that image from this node');
    }
  }

  /** The released manifest of the container on a snapshot; undefined when it is not known any more. */
  admittedManifest(namespace: string, snapshotKey: string): Digest | undefined {
    return this.#manifests.get(`${namespace}/${snapshotKey}`);
  }

  async #claims(
    { namespace, topChainId }: StartingContainer,
    foreseen: Promise<Claims | undefined> | undefined,
  ): Promise<Claims> {
    return (await foreseen) ?? this.#source.volumesOn(namespace, topChainId);
  }

  async #expectedName({ namespace, topChainId }: StartingContainer): Promise<ImageName | undefined> {
    const name = this.#lastNames.get(`${namespace}/${topChainId}`);
    return name === undefined
      ? undefined
      : { name, manifests: await this.#source.manifestsOf(namespace, name) };
  }

  /** @param expected a name that was asked about ahead */
  async #admitOne(
    start: StartingContainer,
    container: ContainerRecord,
    expected: ImageName | undefined,
  ): Promise<void> {
    if (container.image === '') throw await this.#refusal(start, 'the container names no image');
    const manifests =
      container.image === expected?.name
        ? expected.manifests
        : await this.#source.manifestsOf(start.namespace, container.image);
    if (manifests === undefined) {
      // A node may forget the image of a container that it keeps.
      if (start.wasAdmitted) return;
      throw await this.#refusal(start, `the node has no image named ${container.image}`);
    }
    const others: Digest[] = [];
    let isReleased = false;
    for (const manifest of manifests) {
      const image = await this.#source.image(manifest);
      if (await this.#isReleased(start, manifest)) {
        isReleased = true;
        this.#manifests.set(`${start.namespace}/${start.snapshotKey}`, manifest);
        await this.#requireConfig(start, container, image);
      } else if (image !== undefined && topChainId(image) !== start.topChainId) {
        // Of another platform, say: the container does not stand on its layers.
        others.push(manifest);
      } else if (container.isKubernetes && (await this.#isAnotherName(start, image))) {
        isReleased = true;
        await this.#requireConfig(start, container, image);
      } else {
        throw await this.#refusal(start, await this.#reason(start, container.image, manifest));
      }
    }
    if (isReleased) return;
    const [other] = others;
    if (other === undefined) throw await this.#refusal(start, `${container.image} is not for this platform`);
    throw await this.#refusal(start, await this.#reason(start, container.image, other));
  }

  async #isReleased({ namespace, topChainId }: StartingContainer, manifest: Digest): Promise<boolean> {
    return (await this.#releases.findReleased(namespace, topChainId, manifest)) !== undefined;
  }

  async #isReleasedConfig(start: StartingContainer, config: Digest | undefined): Promise<boolean> {
    const lease = await this.#leaseOf(start);
    const released = lease?.statement.images.find(({ manifest }) => manifest === lease.claims.imageDigest);
    return released !== undefined && released.config === config;
  }

  /** The name of its image may have been given to the released one after the container was made from another. */
  async #requireConfig(
    start: StartingContainer,
    { image: name, config }: ContainerRecord,
    image: FoundImage | undefined,
  ): Promise<void> {
    if (config === undefined || image === undefined || config === image.config) return;
    throw await this.#refusal(start, `the container was made from another image than ${name} is now`);
  }

  /**
   * Kubernetes knows an image by its config alone and lets one name stand for all that share it. What runs is then the
   * released config on the released layers, if the released image is among them.
   */
  async #isAnotherName(start: StartingContainer, image: FoundImage | undefined): Promise<boolean> {
    if (image === undefined) return false;
    for (const other of await this.#source.imagesOn(start.namespace, start.topChainId)) {
      if (other.manifest === image.manifest || other.config !== image.config) continue;
      if (await this.#isReleased(start, other.manifest)) return true;
    }
    return false;
  }

  async #reason(start: StartingContainer, name: string, manifest: Digest): Promise<string> {
    const [lease, image] = await Promise.all([this.#leaseOf(start), this.#source.image(manifest)]);
    const alteration =
      lease === undefined || image === undefined
        ? undefined
        : imageAlterations(lease.statement, image, this.#platform).at(0)?.text;
    return `${name}: ${alteration ?? `the manifest ${manifest} is not of this release`}`;
  }

  async #refusal(start: StartingContainer, reason: string, hint?: string): Promise<LatchkeyError> {
    return altered((await this.#leaseOf(start))?.claims, reason, hint);
  }

  #leaseOf({ namespace, topChainId }: StartingContainer): Promise<HeldLease | undefined> {
    return this.#releases.findReleased(namespace, topChainId, undefined);
  }
}

function topChainId({ layers }: FoundImage): Digest | undefined {
  return chainIds(layers.flatMap(({ diffId }) => (diffId === undefined ? [] : [diffId]))).at(-1);
}

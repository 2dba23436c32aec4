/**
 * A container may stand on the layers of a released image and still be of another one: whoever knows the public config
 * can push an image with the same diff IDs around layers of his own, and containerd takes the unpacked ones for it. So at a
 * start the image that the container names must be a released one as well, in manifest, config and platform.
 */
import type { LatchkeyError } from '#src/base/errors.ts';
import { type FoundImage, imageAlterations } from '#src/image/statement-match.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { Platform } from '#src/oci/platform.ts';
import type { ContainerRecord } from '../containerd/containers.ts';
import type { HeldLease } from './lease-keeper.ts';
import { altered } from './image-guard.ts';

/** What containerd says about containers and the images they name. */
export interface ContainerSource {
  containersOn(namespace: string, snapshotKey: string): Promise<readonly ContainerRecord[]>;
  /** Digests of the manifests for this node that a name stands for; undefined when the name is gone. */
  manifestsOf(namespace: string, imageName: string): Promise<readonly Digest[] | undefined>;
  imageNames(namespace: string): Promise<readonly string[]>;
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
   * Resolves when every container on the snapshot is of a released image; containerd asks for the mounts of one before
   * there is a container as well, and then nobody can tell.
   * @returns true when there was a container to tell by
   * @throws LatchkeyError DENIED_IMAGE_ALTERED
   */
  async admit(start: StartingContainer): Promise<boolean> {
    const containers = await this.#source.containersOn(start.namespace, start.snapshotKey);
    for (const container of containers) await this.#admitOne(start, container);
    return containers.length > 0;
  }

  async #admitOne(start: StartingContainer, container: ContainerRecord): Promise<void> {
    const { namespace } = start;
    if (container.image === '') throw await this.#refusal(start, 'the container names no image');
    const manifests = await this.#source.manifestsOf(namespace, container.image);
    if (manifests === undefined) {
      // A node may forget the image of a container that it keeps.
      if (start.wasAdmitted) return;
      throw await this.#refusal(start, `the node has no image named ${container.image}`);
    }
    for (const manifest of manifests) {
      if (await this.#isReleased(start, manifest)) continue;
      if (container.isKubernetes && (await this.#isAnotherName(start, manifest))) continue;
      throw await this.#refusal(start, await this.#reason(start, container.image, manifest));
    }
    if (manifests.length === 0)
      throw await this.#refusal(start, `${container.image} is not for this platform`);
  }

  async #isReleased({ namespace, topChainId }: StartingContainer, manifest: Digest): Promise<boolean> {
    return (await this.#releases.findReleased(namespace, topChainId, manifest)) !== undefined;
  }

  /**
   * Kubernetes knows an image by its config alone and lets one name stand for all that share it. What runs is then the
   * released config on the released layers, if the released image is among them.
   */
  async #isAnotherName(start: StartingContainer, manifest: Digest): Promise<boolean> {
    const config = (await this.#source.image(manifest))?.config;
    if (config === undefined) return false;
    for (const name of await this.#source.imageNames(start.namespace)) {
      for (const other of (await this.#source.manifestsOf(start.namespace, name)) ?? []) {
        if (other === manifest || (await this.#source.image(other))?.config !== config) continue;
        if (await this.#isReleased(start, other)) return true;
      }
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

  async #refusal(start: StartingContainer, reason: string): Promise<LatchkeyError> {
    return altered((await this.#leaseOf(start))?.claims, reason);
  }

  #leaseOf({ namespace, topChainId }: StartingContainer): Promise<HeldLease | undefined> {
    return this.#releases.findReleased(namespace, topChainId, undefined);
  }
}

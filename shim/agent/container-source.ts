/** What containerd knows about containers and the images they name, for the guard. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_GRAPH_MANIFESTS, MAX_MANIFEST_BYTES } from '#src/base/limits.ts';
import type { FoundImage } from '#src/image/statement-match.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { parseImageDocument } from '#src/oci/document.ts';
import { isIndex } from '#src/oci/media-types.ts';
import type { Platform } from '#src/oci/platform.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import { type ContainerRecord, containersOn } from '../containerd/containers.ts';
import { hasBlob, readBlob } from '../containerd/content.ts';
import { findImage } from '../containerd/images.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import type { ContainerSource } from './container-guard.ts';
import type { LayerIndex } from './layer-index.ts';
import { type VolumeClaim, VolumeClaims } from './volume-claims.ts';

type NodePlatform = Pick<Platform, 'os' | 'architecture'>;

/** An index of indexes of indexes is nobody's image. */
const MAX_INDEX_DEPTH = 3;

export class ContainerdSource implements ContainerSource {
  readonly #containerd: ContainerdConnection;
  readonly #index: LayerIndex;
  readonly #platform: NodePlatform;
  readonly #volumes: VolumeClaims;

  /** @param platform of this node */
  constructor(containerd: ContainerdConnection, index: LayerIndex, platform: NodePlatform) {
    this.#containerd = containerd;
    this.#index = index;
    this.#platform = platform;
    this.#volumes = new VolumeClaims(containerd);
  }

  containersOn(namespace: string, snapshotKey: string): Promise<ContainerRecord[]> {
    return containersOn(this.#containerd, namespace, SNAPSHOTTER_NAME, snapshotKey);
  }

  async manifestsOf(namespace: string, imageName: string): Promise<Digest[] | undefined> {
    const image = await findImage(this.#containerd, namespace, imageName);
    if (image === undefined) return undefined;
    const manifests = new Set<Digest>();
    await this.#addManifests(namespace, image.target, image.mediaType, MAX_INDEX_DEPTH, manifests, new Set());
    if (manifests.size < 2) return [...manifests];
    // containerd has fetched one of them, as a rule; it cannot have taken one that it does not have.
    const there = await Promise.all(
      [...manifests].map(
        async (digest) => [digest, await hasBlob(this.#containerd, namespace, digest)] as const,
      ),
    );
    return there.flatMap(([digest, isThere]) => (isThere ? [digest] : []));
  }

  imagesOn(namespace: string, topChainId: Digest): Promise<FoundImage[]> {
    return this.#index.imagesOn(namespace, topChainId);
  }

  volumesOn(namespace: string, topChainId: Digest): Promise<VolumeClaim[]> {
    return this.#volumes.on(namespace, topChainId);
  }

  image(digest: Digest): Promise<FoundImage | undefined> {
    return this.#index.image(digest);
  }

  /** Each index is read once: nested ones can name each other's entries thousands of times. */
  async #addManifests(
    namespace: string,
    digest: Digest,
    mediaType: string,
    depth: number,
    found: Set<Digest>,
    read: Set<Digest>,
  ): Promise<void> {
    if (!isIndex(mediaType)) {
      found.add(digest);
      return;
    }
    if (depth === 0 || read.has(digest)) return;
    read.add(digest);
    if (read.size + found.size > MAX_GRAPH_MANIFESTS) {
      throw new LatchkeyError('LIMIT_EXCEEDED', `the image has more than ${MAX_GRAPH_MANIFESTS} manifests`);
    }
    const bytes = await readBlob(this.#containerd, namespace, digest, MAX_MANIFEST_BYTES);
    const document = parseImageDocument(bytes, mediaType);
    if (document.kind !== 'index') return;
    for (const entry of runnableEntries(document.index.manifests, this.#platform)) {
      await this.#addManifests(namespace, entry.digest, entry.mediaType, depth - 1, found, read);
    }
  }
}

/** What a machine runs besides its own kind (containerd/platforms, platformVector). */
const COMPATIBLE: Readonly<Record<string, readonly string[]>> = { amd64: ['386'], arm64: ['arm'] };

/**
 * The entries that containerd may take on a platform. Which of them it takes depends on variants, on what an entry does
 * not say and on its version, so all of them count.
 */
export function runnableEntries(entries: readonly Descriptor[], platform: NodePlatform): Descriptor[] {
  const architectures = [platform.architecture, ...(COMPATIBLE[platform.architecture] ?? [])];
  return entries.filter(
    (entry) =>
      entry.platform === undefined ||
      (entry.platform.os === platform.os && architectures.includes(entry.platform.architecture)),
  );
}

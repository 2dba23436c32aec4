/** What containerd knows about containers and the images they name, for the guard. */
import { MAX_MANIFEST_BYTES } from '#src/base/limits.ts';
import type { FoundImage } from '#src/image/statement-match.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { parseImageDocument } from '#src/oci/document.ts';
import { isIndex } from '#src/oci/media-types.ts';
import type { Platform } from '#src/oci/platform.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import { type ContainerRecord, containersOn } from '../containerd/containers.ts';
import { readBlob } from '../containerd/content.ts';
import { findImage, listImages } from '../containerd/images.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import type { ContainerSource } from './container-guard.ts';
import type { LayerIndex } from './layer-index.ts';

type NodePlatform = Pick<Platform, 'os' | 'architecture'>;

/** An index of indexes of indexes is nobody's image. */
const MAX_INDEX_DEPTH = 3;

export class ContainerdSource implements ContainerSource {
  readonly #containerd: ContainerdConnection;
  readonly #index: LayerIndex;
  readonly #platform: NodePlatform;

  /** @param platform of this node */
  constructor(containerd: ContainerdConnection, index: LayerIndex, platform: NodePlatform) {
    this.#containerd = containerd;
    this.#index = index;
    this.#platform = platform;
  }

  containersOn(namespace: string, snapshotKey: string): Promise<ContainerRecord[]> {
    return containersOn(this.#containerd, namespace, SNAPSHOTTER_NAME, snapshotKey);
  }

  async manifestsOf(namespace: string, imageName: string): Promise<Digest[] | undefined> {
    const image = await findImage(this.#containerd, namespace, imageName);
    if (image === undefined) return undefined;
    return this.#manifestsBelow(namespace, image.target, image.mediaType, MAX_INDEX_DEPTH);
  }

  async imageNames(namespace: string): Promise<string[]> {
    return (await listImages(this.#containerd, namespace)).map(({ name }) => name);
  }

  image(digest: Digest): Promise<FoundImage | undefined> {
    return this.#index.image(digest);
  }

  async #manifestsBelow(
    namespace: string,
    digest: Digest,
    mediaType: string,
    depth: number,
  ): Promise<Digest[]> {
    if (!isIndex(mediaType)) return [digest];
    if (depth === 0) return [];
    const bytes = await readBlob(this.#containerd, namespace, digest, MAX_MANIFEST_BYTES);
    const document = parseImageDocument(bytes, mediaType);
    if (document.kind !== 'index') return [];
    const entries = entriesFor(document.index.manifests, this.#platform);
    const below = await Promise.all(
      entries.map((entry) => this.#manifestsBelow(namespace, entry.digest, entry.mediaType, depth - 1)),
    );
    return below.flat();
  }
}

/** Entries for a platform; where none says so, those that name no platform, as containerd takes them. */
export function entriesFor(entries: readonly Descriptor[], platform: NodePlatform): Descriptor[] {
  const named = entries.filter(
    (entry) => entry.platform?.os === platform.os && entry.platform.architecture === platform.architecture,
  );
  return named.length > 0 ? named : entries.filter((entry) => entry.platform === undefined);
}

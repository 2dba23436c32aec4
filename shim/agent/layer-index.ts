/**
 * Which layer is behind a chain ID, learnt from the manifests in containerd's content store. containerd tells
 * a snapshotter only the chain ID and a stream processor often nothing, so both look here. Manifests are
 * immutable: each is read once.
 */
import { createHash } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  LAYER_HEAD_BYTES,
  MAX_CONFIG_BYTES,
  MAX_KEYS_PER_LAYER,
  MAX_MANIFEST_BYTES,
} from '#src/base/limits.ts';
import type { FoundImage } from '#src/image/statement-match.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import { listManifests, readBlob, readRange } from '../containerd/content.ts';
import type { LayerIdentity } from '../snapshotter/gate.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import { type ImageLayer, imageLayers, parseImageManifest } from './encrypted-image.ts';
import { type IndexedImage, recordsOfLayer, toFoundImage } from './indexed-image.ts';
import { subjectKey } from './lease.ts';
import { type SecretChain, secretChains } from './secret-chains.ts';

export class LayerIndex {
  readonly #containerd: ContainerdConnection;
  /** Per namespace: manifest digest -> image, or null for a manifest that is none. */
  readonly #images = new Map<string, Map<Digest, IndexedImage | null>>();
  readonly #heads = new Map<Digest, string>();
  readonly #confirmed = new Set<Digest>();
  readonly #foreseen = new Map<Digest, Promise<string | undefined>>();

  constructor(containerd: ContainerdConnection) {
    this.#containerd = containerd;
  }

  /**
   * The layer that unpacks to a chain ID, with every image of the namespace that holds it encrypted. Always asks
   * containerd what has come since: the image being unpacked is the newest.
   */
  async identify(namespace: string, chainId: Digest): Promise<LayerIdentity | undefined> {
    await this.refresh(namespace);
    return this.#lookUp(namespace, chainId);
  }

  /** An image by the digest of its manifest; undefined when no namespace has it whole. */
  async image(digest: Digest): Promise<FoundImage | undefined> {
    for (const images of this.#images.values()) {
      const image = images.get(digest);
      if (image !== undefined) return image === null ? undefined : toFoundImage(image);
    }
    for (const namespace of await this.#containerd.namespaces()) {
      const image = await this.#read(namespace, digest);
      if (image !== undefined && image !== null) return toFoundImage(image);
    }
    return undefined;
  }

  /**
   * The keys of the images of a namespace whose layers end with a chain ID: one record for each image and key. Asks
   * containerd what has come since.
   */
  async recordsOf(namespace: string, topChainId: Digest): Promise<SnapshotGateRecord[]> {
    const images = await this.#imagesOn(namespace, topChainId);
    return images.flatMap((image) => {
      const records = image.layers.flatMap((layer) => recordsOfLayer(image, layer));
      return [...new Map(records.map((record) => [record.imageKeyId, record])).values()];
    });
  }

  /** The keys to an encrypted layer, from every image of this node that holds it. Reads the manifests that have come since. */
  async recordsOfBlob(digest: Digest): Promise<SnapshotGateRecord[]> {
    await this.refreshAll();
    const images = [...this.#images.values()].flatMap((known) => [...known.values()]);
    const records = images.flatMap((image) =>
      (image?.layers ?? []).flatMap((layer) =>
        image === null || layer.digest !== digest ? [] : recordsOfLayer(image, layer),
      ),
    );
    return [...new Map(records.map((record) => [subjectKey(record), record])).values()].slice(
      0,
      MAX_KEYS_PER_LAYER,
    );
  }

  /** The images of a namespace whose layers end with a chain ID. Asks containerd what has come since. */
  async imagesOn(namespace: string, topChainId: Digest): Promise<FoundImage[]> {
    return (await this.#imagesOn(namespace, topChainId)).map(toFoundImage);
  }

  /** SHA-256 of a blob's first bytes: how a layer is known when containerd says nothing about it. */
  async headHash(namespace: string, digest: Digest): Promise<string> {
    // One that was asked for earlier may have come too early for a blob that is there now.
    const foreseen = await this.#foreseen.get(digest);
    const known = foreseen ?? this.#heads.get(digest);
    if (known !== undefined) return known;
    const hash = hashHead(await readRange(this.#containerd, namespace, digest, LAYER_HEAD_BYTES));
    this.#heads.set(digest, hash);
    return hash;
  }

  /** The layer has proved authentic: whatever begins otherwise from now on is not it. */
  confirmHead(digest: Digest): void {
    this.#confirmed.add(digest);
  }

  /** A blob that was damaged when its head was read may have been fetched again since. */
  forgetHead(digest: Digest): void {
    if (!this.#confirmed.has(digest)) this.#heads.delete(digest);
  }

  /** Asks for the heads of blobs that will be wanted in a moment. */
  foresee(namespace: string, digests: readonly Digest[]): void {
    for (const digest of digests) {
      if (this.#heads.has(digest) || this.#foreseen.has(digest)) continue;
      const asked = this.headHash(namespace, digest).catch(() => undefined);
      this.#foreseen.set(digest, asked);
      void asked.then(() => this.#foreseen.delete(digest));
    }
  }

  /** The last bytes of a blob of which a namespace has the whole. */
  tail(namespace: string, { digest, sizeBytes }: SnapshotGateRecord['blob'], bytes: number): Promise<Buffer> {
    return readRange(this.#containerd, namespace, digest, bytes, Math.max(0, sizeBytes - bytes));
  }

  /**
   * Whom to ask about a layer that is known by its head only; undefined when it is in no image of this node.
   * Slow (it reads the head of every encrypted layer), so only for refusals.
   */
  async contactByHead(head: Uint8Array): Promise<string | undefined> {
    const hash = hashHead(head);
    for (const [namespace, images] of this.#images) {
      const layers = [...images.values()].flatMap((image) => image?.layers ?? []);
      for (const { digest, elements } of layers.filter(({ encrypted }) => encrypted)) {
        const known = await this.headHash(namespace, digest).catch(() => undefined);
        if (known === hash) return elements[0]?.header.contact;
      }
    }
    return undefined;
  }

  /**
   * The keys to a layer that is known by its head only, from every image of this node that holds it encrypted. Reads the
   * manifests that have come since.
   * @param hint the layer's digest, when the caller was told one
   */
  async recordsByHead(head: Uint8Array, hint: Digest | undefined): Promise<SnapshotGateRecord[]> {
    await this.refreshAll();
    const records = await this.#recordsByHead(head, hint);
    if (records.length > 0) return records;
    for (const digest of hint === undefined ? [...this.#heads.keys()] : [hint]) this.forgetHead(digest);
    return this.#recordsByHead(head, hint);
  }

  async #recordsByHead(head: Uint8Array, hint: Digest | undefined): Promise<SnapshotGateRecord[]> {
    const hash = hashHead(head);
    const records: SnapshotGateRecord[] = [];
    for (const [namespace, images] of this.#images) {
      for (const image of images.values()) {
        for (const layer of image?.layers ?? []) {
          if (image === null || layer.elements.length === 0) continue;
          if (hint !== undefined && layer.digest !== hint) continue;
          const known = await this.headHash(namespace, layer.digest).catch(() => undefined);
          if (known === hash) records.push(...recordsOfLayer(image, layer));
        }
      }
    }
    return records.slice(0, MAX_KEYS_PER_LAYER);
  }

  /**
   * The chains of the images of a namespace that have an encrypted layer in them. Reads the manifests that have come
   * since.
   */
  async secretChains(namespace: string): Promise<Map<Digest, SecretChain>> {
    await this.refresh(namespace);
    return secretChains([...(this.#images.get(namespace)?.values() ?? [])].filter((image) => image !== null));
  }

  /** Reads the manifests of every namespace that have come since the last time. */
  async refreshAll(): Promise<void> {
    for (const namespace of await this.#containerd.namespaces()) await this.refresh(namespace);
  }

  /** Reads the manifests that have come since the last time, and forgets those that are gone. */
  async refresh(namespace: string): Promise<void> {
    const before = this.#images.get(namespace) ?? new Map<Digest, IndexedImage | null>();
    const now = new Map<Digest, IndexedImage | null>();
    for (const { digest, sizeBytes } of await listManifests(this.#containerd, namespace)) {
      const known = before.get(digest);
      if (known !== undefined) now.set(digest, known);
      else if (sizeBytes <= MAX_MANIFEST_BYTES) {
        const image = await this.#read(namespace, digest);
        if (image !== undefined) now.set(digest, image);
      }
    }
    this.#images.set(namespace, now);
  }

  async #imagesOn(namespace: string, topChainId: Digest): Promise<IndexedImage[]> {
    await this.refresh(namespace);
    const images = [...(this.#images.get(namespace)?.values() ?? [])];
    return images.flatMap((image) => (image?.layers.at(-1)?.chainId === topChainId ? [image] : []));
  }

  /** @returns undefined when the image cannot be read: its config is still being fetched, or it was collected */
  async #read(namespace: string, digest: Digest): Promise<IndexedImage | null | undefined> {
    try {
      const bytes = await readBlob(this.#containerd, namespace, digest, MAX_MANIFEST_BYTES);
      const manifest = parseImageManifest(bytes);
      if (manifest === undefined || manifest.config.size > MAX_CONFIG_BYTES) return null;
      const config = await readBlob(this.#containerd, namespace, manifest.config.digest, MAX_CONFIG_BYTES);
      const layers = imageLayers(manifest, config);
      return layers === undefined ? null : { digest, config: manifest.config.digest, layers };
    } catch (error) {
      // One unreadable image must not stop the others; without an entry its own keys are not given.
      if (error instanceof LatchkeyError && !error.code.startsWith('NET_')) return undefined;
      throw error;
    }
  }

  #lookUp(namespace: string, chainId: Digest): LayerIdentity | undefined {
    const hits = [...(this.#images.get(namespace)?.values() ?? [])].flatMap((image) =>
      (image?.layers ?? []).filter((layer) => layer.chainId === chainId).map((layer) => ({ image, layer })),
    );
    // One that only others can open must not stand in the way of its plain twin.
    const hit =
      hits.find(({ layer }) => layer.elements.length > 0) ??
      hits.find(({ layer }) => !layer.encrypted) ??
      hits[0];
    if (hit === undefined) return undefined;
    const { digest, mediaType, sizeBytes, diffId, encrypted } = hit.layer;
    const keys = hits.flatMap(({ image, layer }) => (image === null ? [] : recordsOfLayer(image, layer)));
    const remaining = hits.map(({ image, layer }) => sizeFrom(image?.layers ?? [], layer));
    return {
      layer: { namespace, digest, mediaType, sizeBytes, diffId, encrypted },
      // Of several images the smallest: which of them is being pulled is not known here.
      imageSizeBytes: Math.min(...remaining),
      encryptedIn: keys.slice(0, MAX_KEYS_PER_LAYER),
      plainTwin: hits.some(({ layer }) => !layer.encrypted),
    };
  }
}

/** Bytes of the blobs from a layer of an image up to its top. */
function sizeFrom(layers: readonly ImageLayer[], first: ImageLayer): number {
  return layers.slice(layers.indexOf(first)).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** SHA-256, hex, of at most the first LAYER_HEAD_BYTES. */
export function hashHead(head: Uint8Array): string {
  return createHash('sha256').update(head.subarray(0, LAYER_HEAD_BYTES)).digest('hex');
}

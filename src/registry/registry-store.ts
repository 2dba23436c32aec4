/** A repository of a registry as a {@link BlobStore}. */
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { referenceTarget, type ImageReference } from '#src/oci/reference.ts';
import type {
  BlobSource,
  BlobStore,
  ManifestBlob,
  ReadManifestOptions,
  TransferOptions,
  WriteManifestOptions,
} from '#src/store/blob-store.ts';
import { referrerIn } from '#src/store/referrers.ts';
import { downloadBlob } from './blob-download.ts';
import { hasRemoteBlob, mountRemoteBlob } from './blob-reuse.ts';
import { uploadBlob } from './blob-upload.ts';
import { getManifest, hasManifest, putManifest } from './manifest-client.ts';
import { addToReferrersTag, listReferrers } from './referrers.ts';
import { openRepository, type RegistryOptions, type Repository } from './repository.ts';

/**
 * The repository of a reference; no request is made. Reading without a reference gives the manifest that this one
 * names; writing without a tag stores under the digest alone.
 */
export function openRegistry(reference: ImageReference, options: RegistryOptions = {}): BlobStore {
  return new RegistryStore(reference, options);
}

class RegistryStore implements BlobStore {
  readonly location: string;
  readonly #reference: ImageReference;
  readonly #repository: Repository;

  constructor(reference: ImageReference, options: RegistryOptions) {
    this.#reference = reference;
    this.#repository = openRepository(reference.registry, reference.repository, options);
    this.location = this.#repository.location;
  }

  readManifest(reference?: string, options: ReadManifestOptions = {}): Promise<ManifestBlob> {
    return getManifest(this.#repository, reference ?? referenceTarget(this.#reference), options);
  }

  openBlob(descriptor: Descriptor, options: TransferOptions = {}): AsyncIterable<Uint8Array> {
    return downloadBlob(this.#repository, descriptor, options);
  }

  hasBlob(descriptor: Descriptor, options: TransferOptions = {}): Promise<boolean> {
    return hasRemoteBlob(this.#repository, descriptor, options.signal);
  }

  async writeBlob(
    descriptor: Descriptor,
    open: () => AsyncIterable<Uint8Array>,
    options: TransferOptions = {},
  ): Promise<void> {
    if (await this.hasBlob(descriptor, options)) {
      options.onBytes?.(descriptor.size);
      return;
    }
    await uploadBlob(this.#repository, descriptor, open, options);
  }

  async mountBlob(
    descriptor: Descriptor,
    source: BlobSource,
    options: TransferOptions = {},
  ): Promise<boolean> {
    if (!(source instanceof RegistryStore)) return false;
    const from = source.#repository;
    if (from.registry !== this.#repository.registry || from.name === this.#repository.name) return false;
    return mountRemoteBlob(this.#repository, from, descriptor.digest, options.signal);
  }

  hasManifest(descriptor: Descriptor, tag?: string, options: TransferOptions = {}): Promise<boolean> {
    return hasManifest(this.#repository, descriptor.digest, tag, options.signal);
  }

  async writeManifest(
    manifest: ManifestBlob,
    tag?: string,
    options: WriteManifestOptions = {},
  ): Promise<void> {
    const { signal } = options;
    const referrer = referrerIn(manifest);
    const { listsReferrer } = await putManifest(this.#repository, manifest, tag, signal);
    if (referrer !== undefined && !listsReferrer) await addToReferrersTag(this.#repository, referrer, signal);
  }

  listReferrers(
    subject: Digest,
    artifactType?: string,
    options: TransferOptions = {},
  ): Promise<readonly Descriptor[]> {
    return listReferrers(this.#repository, subject, artifactType, options.signal);
  }
}

/** A store in memory, with the same contract as the others; for tests and for small images in the making. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { isDigest, type Digest } from '#src/oci/digest.ts';
import type { BlobStore, ManifestBlob, TransferOptions, WriteManifestOptions } from './blob-store.ts';
import { referrerIn, selectReferrers } from './referrers.ts';
import { throwIfAborted, verifiedStream } from './verified-stream.ts';

/** An empty store. @param name shown in messages */
export function createMemoryStore(name = 'memory'): BlobStore {
  return new MemoryStore(name);
}

class MemoryStore implements BlobStore {
  readonly location: string;
  readonly #blobs = new Map<Digest, Uint8Array>();
  readonly #manifests = new Map<Digest, ManifestBlob>();
  readonly #tags = new Map<string, Digest>();
  /** The manifest that a reader without a reference gets. */
  #latest: Digest | undefined;

  constructor(name: string) {
    this.location = name;
  }

  async readManifest(reference?: string, options: TransferOptions = {}): Promise<ManifestBlob> {
    throwIfAborted(options.signal);
    const tagged = reference === undefined ? this.#latest : this.#tags.get(reference);
    const digest = isDigest(reference) ? reference : tagged;
    const manifest = digest === undefined ? undefined : this.#manifests.get(digest);
    if (manifest === undefined) throw this.#notFound(reference ?? 'manifest');
    return manifest;
  }

  async *openBlob(descriptor: Descriptor, options: TransferOptions = {}): AsyncGenerator<Uint8Array> {
    throwIfAborted(options.signal);
    const bytes = this.#blobs.get(descriptor.digest);
    if (bytes === undefined) throw this.#notFound(descriptor.digest);
    yield* verifiedStream([bytes], descriptor, this.location, options);
  }

  async listReferrers(
    subject: Digest,
    artifactType?: string,
    options: TransferOptions = {},
  ): Promise<readonly Descriptor[]> {
    throwIfAborted(options.signal);
    const referrers = [...this.#manifests.values()].map(referrerIn);
    const found = referrers.flatMap((referrer) =>
      referrer?.subject === subject ? [referrer.descriptor] : [],
    );
    return selectReferrers(found, artifactType);
  }

  async hasBlob(descriptor: Descriptor): Promise<boolean> {
    return this.#blobs.get(descriptor.digest)?.length === descriptor.size;
  }

  async writeBlob(
    descriptor: Descriptor,
    open: () => AsyncIterable<Uint8Array>,
    options: TransferOptions = {},
  ): Promise<void> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of verifiedStream(open(), descriptor, this.location, options)) chunks.push(chunk);
    this.#blobs.set(descriptor.digest, Buffer.concat(chunks));
  }

  async writeManifest(
    manifest: ManifestBlob,
    tag?: string,
    options: WriteManifestOptions = {},
  ): Promise<void> {
    throwIfAborted(options.signal);
    const { digest } = manifest.descriptor;
    this.#manifests.set(digest, manifest);
    if (tag !== undefined) this.#tags.set(tag, digest);
    // What is about an image does not take its place.
    const isReferrer = tag === undefined && referrerIn(manifest) !== undefined;
    if (options.isChild !== true && (!isReferrer || this.#latest === undefined)) this.#latest = digest;
  }

  #notFound(what: string): LatchkeyError {
    return new LatchkeyError('STATE_NOT_FOUND', `${this.location} has no ${what}`);
  }
}

/**
 * The seam between image work and where images live. An OCI layout, a registry and memory implement it;
 * one `copy` and one `encrypt` serve all. Small on purpose: everything else is a function over it.
 */
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';

export interface ManifestBlob {
  /** Media type, digest and size of the bytes below. */
  readonly descriptor: Descriptor;
  /** The exact bytes; the digest is over these, so they are never re-serialised. */
  readonly bytes: Uint8Array;
}

export interface TransferOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes moved since the last call. */
  readonly onBytes?: ((deltaBytes: number) => void) | undefined;
}

export interface ReadManifestOptions extends TransferOptions {
  /** What an index says that the document is. A type that is neither manifest nor index is taken as it is, unread. */
  readonly mediaType?: string | undefined;
}

export interface BlobSource {
  /** Where this is, for messages, without secrets: `oci:/path`, `docker://host/name`. */
  readonly location: string;
  /**
   * Reads a manifest or index by tag or digest; without one, the only or the default one.
   * @throws LatchkeyError STATE_NOT_FOUND, INPUT_NOT_AN_IMAGE, INPUT_DIGEST_MISMATCH, LIMIT_EXCEEDED, NET_*
   */
  readManifest(reference?: string, options?: ReadManifestOptions): Promise<ManifestBlob>;
  /**
   * Streams a blob. Length and digest are checked while it flows; the last chunk is only given when both
   * are right, so a consumer that sees the end has seen the true content.
   * @throws LatchkeyError STATE_NOT_FOUND, INPUT_DIGEST_MISMATCH, INPUT_TRUNCATED, NET_*
   */
  openBlob(descriptor: Descriptor, options?: TransferOptions): AsyncIterable<Uint8Array>;
  /**
   * Manifests that name this one as their subject, such as signatures (OCI distribution spec, "Listing Referrers");
   * only those of one artifact type when it is given.
   * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED, NET_*
   */
  listReferrers(
    subject: Digest,
    artifactType?: string,
    options?: TransferOptions,
  ): Promise<readonly Descriptor[]>;
  /** A file that holds the blob on this machine, when there is one; its content is not yet verified. */
  localPath?(digest: Digest): string | undefined;
}

export interface WriteManifestOptions extends TransferOptions {
  /** True for a manifest reached through an index that is written later; it gets no entry of its own. */
  readonly isChild?: boolean | undefined;
}

/** A destination on this machine's disk lets a producer write the file itself and takes it over by rename. */
export interface BlobStaging {
  /** A path for a new file on the destination's filesystem; left behind by a crash, it does no harm. */
  newFile(): Promise<string>;
  /**
   * Takes the file as the blob of the descriptor. The caller vouches for its digest, which it computed while
   * writing; the length is checked and the file is made durable.
   * @throws LatchkeyError INPUT_TRUNCATED, STORAGE_FULL
   */
  adopt(descriptor: Descriptor, path: string): Promise<void>;
}

export interface BlobDestination {
  readonly location: string;
  /** True when the blob is there already, with the same size. */
  hasBlob(descriptor: Descriptor, options?: TransferOptions): Promise<boolean>;
  /**
   * Stores a blob under its digest; nothing half-written is ever visible under it. `open` is called again
   * from the start when a transfer has to be repeated.
   * @throws LatchkeyError INPUT_DIGEST_MISMATCH, STORAGE_FULL, NET_*
   */
  writeBlob(
    descriptor: Descriptor,
    open: () => AsyncIterable<Uint8Array>,
    options?: TransferOptions,
  ): Promise<void>;
  /**
   * True when the manifest is there, and under the tag when one is given, so that it need not be written. Left out where
   * writing costs no more than looking.
   */
  hasManifest?(descriptor: Descriptor, tag?: string, options?: TransferOptions): Promise<boolean>;
  /** Stores a manifest or index, and points a tag at it when one is given. */
  writeManifest(manifest: ManifestBlob, tag?: string, options?: WriteManifestOptions): Promise<void>;
  /**
   * Takes the blob over from a source this destination can reach without us, such as another repository of the
   * same registry. False when it cannot; then the blob must be written.
   */
  mountBlob?(descriptor: Descriptor, source: BlobSource, options?: TransferOptions): Promise<boolean>;
  readonly staging?: BlobStaging | undefined;
}

export type BlobStore = BlobSource & BlobDestination;

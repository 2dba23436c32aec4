/**
 * Reads an image layout (OCI image spec, image-layout.md), wherever its files are: in a directory or in an archive.
 */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LAYOUT_ENTRIES, MAX_MANIFEST_BYTES } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestHex, digestOf, isDigest, parseDigest, type Digest } from '#src/oci/digest.ts';
import { parseDocument } from '#src/oci/document-schema.ts';
import { sniffMediaType } from '#src/oci/document.ts';
import { parseIndex, type ImageIndex } from '#src/oci/index.ts';
import { isIndex, isManifest, isUnknownDocument } from '#src/oci/media-types.ts';
import type { BlobSource, ManifestBlob, ReadManifestOptions, TransferOptions } from './blob-store.ts';
import { chooseInLayout, findInLayout, referenceName } from './layout-index.ts';
import { type Referrer, isReferrersTag, referrerIn, referrersTag, selectReferrers } from './referrers.ts';
import { truncated, throwIfAborted, verifiedStream, wrongContent } from './verified-stream.ts';

export const LAYOUT_FILE = 'oci-layout';
export const INDEX_FILE = 'index.json';
export const BLOB_DIRECTORY = 'blobs/sha256';
export const LAYOUT_VERSION = '1.0.0';

const layoutFileSchema = z.looseObject({ imageLayoutVersion: z.literal(LAYOUT_VERSION) });

/** The files of a layout, by names with forward slashes, relative to its root. */
export interface LayoutFiles {
  /** Size in bytes, or undefined when there is no such file. */
  size(name: string): Promise<number | undefined>;
  /** A whole file, whose size the caller has checked. */
  read(name: string): Promise<Uint8Array>;
  chunks(name: string): AsyncIterable<Uint8Array>;
  /** Why there is no layout at all. */
  missing(): LatchkeyError;
}

/** The name of a blob's file. */
export function blobName(digest: Digest): string {
  if (!isDigest(digest)) throw new TypeError('not a digest');
  return `${BLOB_DIRECTORY}/${digestHex(digest)}`;
}

export class LayoutReader implements BlobSource {
  readonly location: string;
  readonly #files: LayoutFiles;
  /** By digest, so they hold for ever. */
  readonly #referrers = new Map<string, { readonly referrer: Referrer | undefined }>();
  #index: { readonly bytes: Uint8Array; readonly index: ImageIndex } | undefined;

  constructor(location: string, files: LayoutFiles) {
    this.location = location;
    this.#files = files;
  }

  async readManifest(reference?: string, options: ReadManifestOptions = {}): Promise<ManifestBlob> {
    throwIfAborted(options.signal);
    if (isDigest(reference) && isUnknownDocument(options.mediaType)) {
      const bytes = await this.#readManifestBytes(reference);
      const descriptor = { mediaType: options.mediaType, digest: reference, size: bytes.length };
      if (digestOf(bytes) !== reference) throw wrongContent(descriptor, this.location);
      return { descriptor, bytes };
    }
    const index = await this.readIndex();
    const entry =
      reference === undefined
        ? chooseInLayout(await this.#withoutReferrers(index), this.location)
        : findInLayout(index, reference, this.location);
    if (entry !== undefined) return this.#readEntry(entry);
    const digest = parseDigest(reference);
    const bytes = await this.#readManifestBytes(digest);
    const descriptor = { mediaType: '', digest, size: bytes.length };
    if (digestOf(bytes) !== digest) throw wrongContent(descriptor, this.location);
    return { descriptor: { ...descriptor, mediaType: sniffMediaType(bytes) }, bytes };
  }

  async *openBlob(descriptor: Descriptor, options: TransferOptions = {}): AsyncGenerator<Uint8Array> {
    throwIfAborted(options.signal);
    const sizeBytes = await this.#sizeOf(descriptor.digest);
    // Known before the first byte, so that nobody works on a blob that cannot be right.
    if (sizeBytes < descriptor.size) throw truncated(descriptor, this.location, sizeBytes);
    const chunks = this.#files.chunks(blobName(descriptor.digest));
    yield* verifiedStream(chunks, descriptor, this.location, options);
  }

  async listReferrers(
    subject: Digest,
    artifactType?: string,
    options: TransferOptions = {},
  ): Promise<readonly Descriptor[]> {
    const found: Descriptor[] = [];
    const { manifests } = await this.readIndex();
    for (const entry of manifests) {
      throwIfAborted(options.signal);
      const referrer = await this.#referrerAt(entry);
      if (referrer?.subject === subject) found.push(referrer.descriptor);
      // A list made by a client of a registry without the referrers API, copied here with its tag.
      const isList = isIndex(entry.mediaType) && referenceName(entry) === referrersTag(subject);
      const list = isList ? await this.#readPresentEntry(entry) : undefined;
      if (list !== undefined) found.push(...parseIndex(list.bytes).manifests);
    }
    return selectReferrers(found, artifactType);
  }

  /** @throws LatchkeyError INPUT_NOT_AN_IMAGE, STATE_NOT_FOUND, INPUT_MALFORMED, LIMIT_EXCEEDED */
  async readIndex(): Promise<ImageIndex> {
    await this.checkVersion();
    const bytes = await this.#readOwnFile(INDEX_FILE);
    if (this.#index === undefined || Buffer.compare(this.#index.bytes, bytes) !== 0) {
      this.#index = { bytes, index: parseIndex(bytes, MAX_LAYOUT_ENTRIES) };
    }
    return this.#index.index;
  }

  /** @throws LatchkeyError INPUT_NOT_AN_IMAGE, STATE_NOT_FOUND, INPUT_MALFORMED */
  async checkVersion(): Promise<void> {
    parseDocument(layoutFileSchema, await this.#readOwnFile(LAYOUT_FILE), `${this.location}/${LAYOUT_FILE}`);
  }

  /** The entries a reader without a reference may mean: signatures beside an image do not make it ambiguous. */
  async #withoutReferrers(index: ImageIndex): Promise<readonly Descriptor[]> {
    const { manifests } = index;
    if (manifests.every((entry) => entry.digest === manifests[0]?.digest)) return manifests;
    const images: Descriptor[] = [];
    for (const entry of manifests) if (!(await this.#isReferrer(entry))) images.push(entry);
    return images.length === 0 ? manifests : images;
  }

  async #isReferrer(entry: Descriptor): Promise<boolean> {
    const tag = referenceName(entry);
    if (tag !== undefined) return isReferrersTag(tag);
    return (await this.#referrerAt(entry)) !== undefined;
  }

  /** What an entry refers to. Read once: an image with many referrers is asked for them again and again. */
  async #referrerAt(entry: Descriptor): Promise<Referrer | undefined> {
    const key = `${entry.digest} ${entry.mediaType} ${entry.size}`;
    const known = this.#referrers.get(key);
    if (known !== undefined) return known.referrer;
    const manifest = await this.#readPresentEntry(entry);
    if (manifest === undefined) return undefined;
    const referrer = referrerIn(manifest);
    this.#referrers.set(key, { referrer });
    return referrer;
  }

  /** Undefined for what is no manifest, and for a manifest that a partial layout leaves out. */
  async #readPresentEntry(entry: Descriptor): Promise<ManifestBlob | undefined> {
    if (!isManifest(entry.mediaType) && !isIndex(entry.mediaType)) return undefined;
    if ((await this.#files.size(blobName(entry.digest))) === undefined) return undefined;
    return this.#readEntry(entry);
  }

  async #readEntry({ mediaType, digest, size }: Descriptor): Promise<ManifestBlob> {
    const descriptor = { mediaType, digest, size };
    const bytes = await this.#readManifestBytes(digest);
    if (bytes.length < size) throw truncated(descriptor, this.location, bytes.length);
    if (bytes.length !== size || digestOf(bytes) !== digest) throw wrongContent(descriptor, this.location);
    return { descriptor, bytes };
  }

  async #readManifestBytes(digest: Digest): Promise<Uint8Array> {
    if ((await this.#sizeOf(digest)) > MAX_MANIFEST_BYTES) {
      throw new LatchkeyError('LIMIT_EXCEEDED', `${this.location}: the manifest ${digest} is too large`);
    }
    return this.#files.read(blobName(digest));
  }

  async #readOwnFile(name: string): Promise<Uint8Array> {
    const sizeBytes = await this.#files.size(name);
    if (sizeBytes === undefined) throw this.#files.missing();
    if (sizeBytes > MAX_MANIFEST_BYTES) {
      throw new LatchkeyError('LIMIT_EXCEEDED', `${this.location}/${name} is too large`);
    }
    return this.#files.read(name);
  }

  async #sizeOf(digest: Digest): Promise<number> {
    const sizeBytes = await this.#files.size(blobName(digest));
    if (sizeBytes !== undefined) return sizeBytes;
    if ((await this.#files.size(LAYOUT_FILE)) === undefined) throw this.#files.missing();
    throw new LatchkeyError('STATE_NOT_FOUND', `${this.location} has no blob ${digest}`, {
      hint: 'the copy is incomplete; get the image again from where it was built',
    });
  }
}

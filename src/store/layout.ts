/**
 * An image layout on disk (OCI image spec, image-layout.md). Blobs are written beside, synced and renamed, and
 * index.json last, so a crash leaves at most files that nobody refers to.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { LAYOUT_LEFTOVER_AGE_MS } from '#src/base/limits.ts';
import { makeDirectory } from '#src/base/make-directory.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { ImageIndex } from '#src/oci/index.ts';
import {
  fileSize,
  partialPath,
  readChunks,
  removeLeftovers,
  renameDurably,
  syncDirectory,
  writeWhole,
} from './blob-file.ts';
import type {
  BlobStaging,
  BlobStore,
  ManifestBlob,
  ReadManifestOptions,
  TransferOptions,
  WriteManifestOptions,
} from './blob-store.ts';
import { EMPTY_LAYOUT_INDEX, withManifest } from './layout-index.ts';
import { withLayoutLock } from './layout-lock.ts';
import {
  BLOB_DIRECTORY,
  INDEX_FILE,
  LAYOUT_FILE,
  LAYOUT_VERSION,
  LayoutReader,
  blobName,
} from './layout-reader.ts';
import { truncated, verifiedStream } from './verified-stream.ts';

/** What a writer that crashed while it made the layout may have left. */
const OWN_NAME_PATTERN = /^(?:blobs|index\.json|\.latchkey-.*\.partial)$/;

/**
 * The layout in a directory, which need not exist yet: the first write makes it.
 * Opening touches nothing; every error comes from the call that needs the disk.
 */
export function openLayout(directory: string): BlobStore & { readonly staging: BlobStaging } {
  return new Layout(directory);
}

class Layout implements BlobStore {
  readonly location: string;
  readonly staging: BlobStaging;
  readonly #directory: string;
  readonly #reader: LayoutReader;
  #prepared: Promise<void> | undefined;

  constructor(directory: string) {
    this.#directory = directory;
    this.location = `oci:${directory}`;
    this.#reader = new LayoutReader(this.location, {
      size: (name) => fileSize(join(directory, name)),
      read: (name) => readFile(join(directory, name)).catch(raise),
      chunks: (name) => readChunks(join(directory, name)),
      missing: () => this.#notALayout(),
    });
    this.staging = {
      newFile: async () => {
        await this.#prepare();
        return partialPath(this.#directory);
      },
      adopt: (descriptor, path) => this.#adopt(descriptor, path),
    };
  }

  readManifest(reference?: string, options?: ReadManifestOptions): Promise<ManifestBlob> {
    return this.#reader.readManifest(reference, options);
  }

  openBlob(descriptor: Descriptor, options?: TransferOptions): AsyncIterable<Uint8Array> {
    return this.#reader.openBlob(descriptor, options);
  }

  listReferrers(
    subject: Digest,
    artifactType?: string,
    options?: TransferOptions,
  ): Promise<readonly Descriptor[]> {
    return this.#reader.listReferrers(subject, artifactType, options);
  }

  localPath(digest: Digest): string | undefined {
    const path = this.#blobPath(digest);
    return existsSync(path) ? path : undefined;
  }

  async hasBlob(descriptor: Descriptor): Promise<boolean> {
    return (await fileSize(this.#blobPath(descriptor.digest))) === descriptor.size;
  }

  async writeBlob(
    descriptor: Descriptor,
    open: () => AsyncIterable<Uint8Array>,
    options: TransferOptions = {},
  ): Promise<void> {
    await this.#prepare();
    const chunks = verifiedStream(open(), descriptor, this.location, options);
    await writeWhole(partialPath(this.#directory), this.#blobPath(descriptor.digest), chunks);
  }

  async writeManifest(
    manifest: ManifestBlob,
    tag?: string,
    options: WriteManifestOptions = {},
  ): Promise<void> {
    const { descriptor, bytes } = manifest;
    await this.writeBlob(descriptor, () => once(bytes), { signal: options.signal });
    if (tag === undefined && options.isChild === true) return;
    await this.#changeIndex((index) => withManifest(index, descriptor, tag));
  }

  async #adopt(descriptor: Descriptor, path: string): Promise<void> {
    await this.#prepare();
    const sizeBytes = (await fileSize(path)) ?? 0;
    if (sizeBytes !== descriptor.size) throw truncated(descriptor, this.location, sizeBytes);
    try {
      await renameDurably(path, this.#blobPath(descriptor.digest));
    } catch (error) {
      throw toLatchkeyError(error);
    }
  }

  async #changeIndex(change: (index: ImageIndex) => ImageIndex): Promise<void> {
    try {
      await syncDirectory(join(this.#directory, BLOB_DIRECTORY));
      await withLayoutLock(await realpath(this.#directory), async () => {
        const changed = change(await this.#reader.readIndex());
        const path = join(this.#directory, INDEX_FILE);
        await writeWhole(partialPath(this.#directory), path, [Buffer.from(JSON.stringify(changed))]);
        await syncDirectory(this.#directory);
      });
    } catch (error) {
      throw toLatchkeyError(error);
    }
  }

  #notALayout(): LatchkeyError {
    if (!existsSync(this.#directory)) {
      return new LatchkeyError('STATE_NOT_FOUND', `${this.location} does not exist`, {
        hint: 'check the path of the image layout',
      });
    }
    return new LatchkeyError('INPUT_NOT_AN_IMAGE', `${this.location} is not an OCI image layout`, {
      hint: `an image layout has the files ${LAYOUT_FILE} and ${INDEX_FILE}`,
    });
  }

  #blobPath(digest: Digest): string {
    return join(this.#directory, blobName(digest));
  }

  /** Makes the layout when there is none; once, however many blobs are written at the same time. */
  #prepare(): Promise<void> {
    this.#prepared ??= this.#createOrCheck().catch((error: unknown) => {
      this.#prepared = undefined;
      throw toLatchkeyError(error);
    });
    return this.#prepared;
  }

  async #createOrCheck(): Promise<void> {
    await refuseOtherDirectory(this.#directory, this.location);
    await makeDirectory(join(this.#directory, BLOB_DIRECTORY));
    await withLayoutLock(await realpath(this.#directory), async () => {
      await this.#createFile(INDEX_FILE, JSON.stringify(EMPTY_LAYOUT_INDEX));
      await this.#createFile(LAYOUT_FILE, JSON.stringify({ imageLayoutVersion: LAYOUT_VERSION }));
    });
    await this.#reader.checkVersion();
    await removeLeftovers(this.#directory, LAYOUT_LEFTOVER_AGE_MS, Date.now());
  }

  async #createFile(name: string, text: string): Promise<void> {
    const path = join(this.#directory, name);
    if (existsSync(path)) return;
    await writeWhole(partialPath(this.#directory), path, [Buffer.from(text)]);
  }
}

/** A layout among somebody's other files is a mistyped path. */
async function refuseOtherDirectory(directory: string, location: string): Promise<void> {
  if (!existsSync(directory) || existsSync(join(directory, LAYOUT_FILE))) return;
  const foreign = (await readdir(directory)).find((name) => !OWN_NAME_PATTERN.test(name));
  if (foreign === undefined) return;
  throw new LatchkeyError(
    'INPUT_NOT_AN_IMAGE',
    `${location} is not an OCI image layout and has other files in it (${foreign})`,
    { hint: 'name a new or empty directory' },
  );
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function raise(error: unknown): never {
  throw toLatchkeyError(error);
}

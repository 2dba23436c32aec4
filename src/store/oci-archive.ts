/**
 * An image layout in a tar, skopeo's `oci-archive:`. It is read where it is; it is written as a layout beside its place,
 * so that layers are made in files, and becomes a tar at the end.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { LAYOUT_LEFTOVER_AGE_MS } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { STANDARD_STREAM } from '#src/oci/location.ts';
import { openArchiveFile } from './archive-file.ts';
import type { ArchiveOptions, ArchiveStore } from './archive-store.ts';
import { partialPath, syncDirectory, writeWhole } from './blob-file.ts';
import type {
  BlobSource,
  BlobStaging,
  BlobStore,
  ManifestBlob,
  ReadManifestOptions,
  TransferOptions,
  WriteManifestOptions,
} from './blob-store.ts';
import { INDEX_FILE, LAYOUT_FILE, LayoutReader } from './layout-reader.ts';
import { openLayout } from './layout.ts';
import type { SpooledStream } from './spool.ts';
import { TarMembers } from './tar-members.ts';
import { writeLayoutTar } from './tar-writer.ts';
import { throwIfAborted } from './verified-stream.ts';

type StagedLayout = BlobStore & { readonly staging: BlobStaging };

/** What a run that was killed may have left beside an archive. */
const STAGE_PATTERN = /^\.latchkey-[0-9a-f-]{36}\.stage$/;

/**
 * The archive in a file, or on standard input and output. Opening touches nothing. Once something was stored, it is what
 * is read too; an archive that was there before is replaced as a whole by {@link ArchiveStore.finish}.
 */
export function openOciArchive(
  file: string,
  options: ArchiveOptions,
): ArchiveStore & { readonly staging: BlobStaging } {
  return new OciArchive(file, options);
}

class OciArchive implements ArchiveStore {
  readonly location: string;
  readonly staging: BlobStaging;
  readonly #file: string;
  readonly #options: ArchiveOptions;
  #reader: Promise<LayoutReader> | undefined;
  #archive: SpooledStream | undefined;
  #stage: Promise<StagedLayout> | undefined;
  #stageDirectory: string | undefined;

  constructor(file: string, options: ArchiveOptions) {
    this.location = `oci-archive:${file}`;
    this.#file = file;
    this.#options = options;
    this.staging = {
      newFile: async () => (await this.#staged()).staging.newFile(),
      adopt: async (descriptor, path) => (await this.#staged()).staging.adopt(descriptor, path),
    };
  }

  async readManifest(reference?: string, options?: ReadManifestOptions): Promise<ManifestBlob> {
    return (await this.#readable(options?.signal)).readManifest(reference, options);
  }

  async *openBlob(descriptor: Descriptor, options?: TransferOptions): AsyncGenerator<Uint8Array> {
    yield* (await this.#readable(options?.signal)).openBlob(descriptor, options);
  }

  async listReferrers(
    subject: Digest,
    artifactType?: string,
    options?: TransferOptions,
  ): Promise<readonly Descriptor[]> {
    return (await this.#readable(options?.signal)).listReferrers(subject, artifactType, options);
  }

  async hasBlob(descriptor: Descriptor): Promise<boolean> {
    return this.#stage !== undefined && (await (await this.#stage).hasBlob(descriptor));
  }

  async writeBlob(
    descriptor: Descriptor,
    open: () => AsyncIterable<Uint8Array>,
    options?: TransferOptions,
  ): Promise<void> {
    await (await this.#staged()).writeBlob(descriptor, open, options);
  }

  async writeManifest(manifest: ManifestBlob, tag?: string, options?: WriteManifestOptions): Promise<void> {
    await (await this.#staged()).writeManifest(manifest, tag, options);
  }

  async finish(signal?: AbortSignal): Promise<void> {
    const directory = this.#stageDirectory;
    if (directory === undefined) return;
    await this.#staged();
    try {
      if (this.#isStream()) {
        await writeOut(writeLayoutTar(directory, signal), this.#options.streams.output);
      } else {
        const parent = dirname(this.#file);
        await writeWhole(partialPath(parent), this.#file, writeLayoutTar(directory, signal));
        await syncDirectory(parent);
      }
    } catch (error) {
      throwIfAborted(signal);
      throw toLatchkeyError(error);
    }
    await this.discard();
  }

  async discard(): Promise<void> {
    const [directory, archive] = [this.#stageDirectory, this.#archive];
    this.#stage = this.#stageDirectory = this.#reader = this.#archive = undefined;
    await archive?.file.close();
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
  }

  #isStream(): boolean {
    return this.#file === STANDARD_STREAM;
  }

  /** What was stored, or else the archive as it is. */
  #readable(signal: AbortSignal | undefined): Promise<BlobSource> {
    if (this.#stage !== undefined) return this.#stage;
    this.#reader ??= this.#openReader(signal).catch((error: unknown) => {
      this.#reader = undefined;
      throw error;
    });
    return this.#reader;
  }

  async #openReader(signal: AbortSignal | undefined): Promise<LayoutReader> {
    const { location } = this;
    const content = this.#isStream() ? { stream: this.#options.streams.input } : { path: this.#file };
    const { temporaryDirectory } = this.#options;
    const archive = await openArchiveFile({ location, content, temporaryDirectory }, signal);
    this.#archive = archive;
    const members = await TarMembers.read(archive, location, signal);
    return new LayoutReader(location, {
      size: async (name) => members.find(name)?.sizeBytes,
      read: async (name) => {
        const { offset, sizeBytes } = requireMember(members, name);
        return archive.file.read(offset, sizeBytes);
      },
      chunks: (name) => {
        const { offset, sizeBytes } = requireMember(members, name);
        return archive.file.chunks(offset, sizeBytes);
      },
      missing: () => notALayout(location, members),
    });
  }

  #staged(): Promise<StagedLayout> {
    this.#stage ??= this.#createStage().catch((error: unknown) => {
      this.#stage = undefined;
      throw toLatchkeyError(error);
    });
    return this.#stage;
  }

  /** Beside the archive, where there must be room for it anyway; its content is nobody else's business yet. */
  async #createStage(): Promise<StagedLayout> {
    const parent = this.#isStream() ? this.#options.temporaryDirectory : dirname(this.#file);
    await removeOldStages(parent, Date.now());
    const directory = join(parent, `.latchkey-${randomUUID()}.stage`);
    await mkdir(directory, { mode: 0o700 });
    this.#stageDirectory = directory;
    return Object.assign(openLayout(directory), { location: this.location });
  }
}

function requireMember(members: TarMembers, name: string) {
  const member = members.find(name);
  if (member === undefined) throw new TypeError(`no file ${name}`);
  return member;
}

function notALayout(location: string, members: TarMembers): LatchkeyError {
  const isDocker = members.find('manifest.json') !== undefined;
  return new LatchkeyError('INPUT_NOT_AN_IMAGE', `${location} is not an OCI image layout`, {
    hint: isDocker
      ? `it was written by docker save: write ${location.replace(/^oci-/, 'docker-')}`
      : `an OCI archive has the files ${LAYOUT_FILE} and ${INDEX_FILE} at its root`,
  });
}

/** The stream is not ours to end. */
async function writeOut(chunks: AsyncIterable<Uint8Array>, output: NodeJS.WritableStream): Promise<void> {
  const gone = (cause: Error): LatchkeyError =>
    new LatchkeyError('STORAGE_FAILED', 'whoever reads the archive has stopped', { cause });
  const ignore = (): void => undefined;
  // The failure also comes as an event, which without a listener ends the process.
  output.on('error', ignore);
  try {
    for await (const chunk of chunks) {
      await new Promise<void>((resolve, reject) => {
        output.write(chunk, (error) => {
          if (error) reject(gone(error));
          else resolve();
        });
      });
    }
  } finally {
    output.off('error', ignore);
  }
}

async function removeOldStages(directory: string, nowMs: number): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!STAGE_PATTERN.test(name)) continue;
    const path = join(directory, name);
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined && nowMs - found.mtimeMs > LAYOUT_LEFTOVER_AGE_MS) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

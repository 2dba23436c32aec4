/**
 * What `docker save` writes (moby image spec 1.2, "Combined Image JSON + Filesystem Changeset Format"), also by podman,
 * buildah and skopeo. It is read as an OCI image: the config keeps its bytes and digest; the manifest is made here, always
 * the same from the same archive.
 */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_CONFIG_BYTES, MAX_INDEX_ENTRIES, MAX_LAYERS, MAX_MANIFEST_BYTES } from '#src/base/limits.ts';
import { parseConfig } from '#src/oci/config.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestFromHex, digestOf, type Digest } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseDocument } from '#src/oci/document-schema.ts';
import { STANDARD_STREAM } from '#src/oci/location.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openArchiveFile } from './archive-file.ts';
import type { ArchiveOptions, ArchiveStore } from './archive-store.ts';
import type { ManifestBlob, TransferOptions } from './blob-store.ts';
import { chooseSavedImage, type SavedImage } from './docker-archive-choice.ts';
import type { RandomAccessFile } from './random-access-file.ts';
import { hashMember, type TarMember, TarMembers } from './tar-members.ts';
import { throwIfAborted, truncated, verifiedStream, wrongContent } from './verified-stream.ts';

const MANIFEST_FILE = 'manifest.json';
/** All that archives had before Docker 1.10. */
const REPOSITORIES_FILE = 'repositories';
/** Files named by the digest of their content: configs of old archives, blobs of new ones. */
const DIGEST_NAME_PATTERN = /^(?:blobs\/sha256\/([0-9a-f]{64})|([0-9a-f]{64})\.json)$/;
const MAGIC_BYTES = 4;
/** Layers are saved as plain tars; some tools, and Docker's containerd store, leave them compressed. */
const COMPRESSED_LAYERS: readonly (readonly [magic: string, mediaType: string])[] = [
  ['1f8b', MEDIA_TYPE.ociLayerGzip],
  ['28b52ffd', MEDIA_TYPE.ociLayerZstd],
];

const manifestSchema = z
  .array(
    z.looseObject({
      Config: z.string(),
      RepoTags: z.array(z.string()).nullish(),
      Layers: z
        .array(z.string())
        .max(MAX_LAYERS)
        .nullable()
        .transform((list) => list ?? []),
    }),
  )
  .max(MAX_INDEX_ENTRIES);

interface OpenedArchive {
  readonly file: RandomAccessFile;
  readonly members: TarMembers;
  readonly images: readonly SavedImage[];
}

/** The archive in a file, or on standard input. Opening touches nothing; writing is refused. */
export function openDockerArchive(file: string, options: ArchiveOptions): ArchiveStore {
  return new DockerArchive(file, options);
}

class DockerArchive implements ArchiveStore {
  readonly location: string;
  readonly #path: string;
  readonly #options: ArchiveOptions;
  #opened: Promise<OpenedArchive> | undefined;
  /** Manifests that were asked for, which exist nowhere else. */
  readonly #manifests = new Map<Digest, ManifestBlob>();
  readonly #blobs = new Map<Digest, TarMember>();

  constructor(path: string, options: ArchiveOptions) {
    this.location = `docker-archive:${path}`;
    this.#path = path;
    this.#options = options;
  }

  async readManifest(reference?: string, options: TransferOptions = {}): Promise<ManifestBlob> {
    const { signal } = options;
    throwIfAborted(signal);
    const made = this.#manifests.get(reference as Digest);
    if (made !== undefined) return made;
    const opened = await this.#open(signal);
    const image = chooseSavedImage(opened.images, reference, this.location);
    const manifest = await this.#manifestOf(opened, image, signal);
    this.#manifests.set(manifest.descriptor.digest, manifest);
    return manifest;
  }

  async *openBlob(descriptor: Descriptor, options: TransferOptions = {}): AsyncGenerator<Uint8Array> {
    throwIfAborted(options.signal);
    const { file } = await this.#open(options.signal);
    const member = this.#blobs.get(descriptor.digest);
    if (member === undefined) {
      throw new LatchkeyError('STATE_NOT_FOUND', `${this.location} has no blob ${descriptor.digest}`, {
        hint: 'the archive is incomplete; make or copy it again',
      });
    }
    if (member.sizeBytes < descriptor.size) throw truncated(descriptor, this.location, member.sizeBytes);
    const chunks = file.chunks(member.offset, member.sizeBytes);
    yield* verifiedStream(chunks, descriptor, this.location, options);
  }

  /** The format has no place for them. */
  async listReferrers(): Promise<readonly Descriptor[]> {
    return [];
  }

  async hasBlob(): Promise<boolean> {
    return false;
  }

  async writeBlob(): Promise<void> {
    throw readOnly(this.location);
  }

  async writeManifest(): Promise<void> {
    throw readOnly(this.location);
  }

  async finish(): Promise<void> {
    // Nothing was written.
  }

  async discard(): Promise<void> {
    const opened = await this.#opened?.catch(() => undefined);
    this.#opened = undefined;
    await opened?.file.close();
  }

  #open(signal: AbortSignal | undefined): Promise<OpenedArchive> {
    this.#opened ??= this.#read(signal).catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async #read(signal: AbortSignal | undefined): Promise<OpenedArchive> {
    const { location } = this;
    const { temporaryDirectory, streams } = this.#options;
    const content = this.#path === STANDARD_STREAM ? { stream: streams.input } : { path: this.#path };
    const archive = await openArchiveFile({ location, content, temporaryDirectory }, signal);
    const { file } = archive;
    try {
      const members = await TarMembers.read(archive, location, signal);
      const manifest = members.find(MANIFEST_FILE);
      if (manifest === undefined) throw notADockerArchive(location, members);
      const bytes = await readSmall(file, manifest, MAX_MANIFEST_BYTES, `${location}/${MANIFEST_FILE}`);
      return { file, members, images: parseDocument(manifestSchema, bytes, `${location}/${MANIFEST_FILE}`) };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async #manifestOf(
    { file, members }: OpenedArchive,
    image: SavedImage,
    signal: AbortSignal | undefined,
  ): Promise<ManifestBlob> {
    const { location } = this;
    const configMember = this.#member(members, image.Config);
    const configBytes = await readSmall(file, configMember, MAX_CONFIG_BYTES, `${location}/${image.Config}`);
    const config = {
      mediaType: MEDIA_TYPE.ociConfig,
      digest: digestOf(configBytes),
      size: configBytes.length,
    };
    if ((digestInName(image.Config) ?? config.digest) !== config.digest) throw wrongContent(config, location);
    const diffIds = parseConfig(configBytes).rootfs.diff_ids;
    if (diffIds.length !== image.Layers.length) {
      throw new LatchkeyError(
        'INPUT_MALFORMED',
        `${location}: the config names ${diffIds.length} layers, but the archive lists ${image.Layers.length}`,
      );
    }
    const layers: Descriptor[] = [];
    for (const [position, name] of image.Layers.entries()) {
      throwIfAborted(signal);
      const member = this.#member(members, name);
      const layer = await describeLayer(file, member, name, diffIds[position], signal);
      this.#blobs.set(layer.digest, member);
      layers.push(layer);
    }
    this.#blobs.set(config.digest, configMember);
    return encodeImageDocument({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config, layers });
  }

  #member(members: TarMembers, name: string): TarMember {
    const member = members.find(name);
    if (member !== undefined) return member;
    const shown = JSON.stringify(name.slice(0, 100));
    throw new LatchkeyError('INPUT_TRUNCATED', `${this.location} lists ${shown} but does not have it`, {
      hint: 'the archive is incomplete; save the image again',
    });
  }
}

/** A plain layer's digest is its diff ID, so nothing has to be read; reading it later checks it. */
async function describeLayer(
  file: RandomAccessFile,
  member: TarMember,
  name: string,
  diffId: Digest | undefined,
  signal: AbortSignal | undefined,
): Promise<Descriptor> {
  const magic = Buffer.from(await file.read(member.offset, Math.min(MAGIC_BYTES, member.sizeBytes)));
  const compressed = COMPRESSED_LAYERS.find(([start]) => magic.toString('hex').startsWith(start));
  const size = member.sizeBytes;
  if (compressed === undefined && diffId !== undefined) {
    return { mediaType: MEDIA_TYPE.ociLayer, digest: diffId, size };
  }
  const digest = digestInName(name) ?? (await hashMember(file, member, signal));
  return { mediaType: compressed?.[1] ?? MEDIA_TYPE.ociLayer, digest, size };
}

async function readSmall(
  file: RandomAccessFile,
  { offset, sizeBytes }: TarMember,
  maxBytes: number,
  what: string,
): Promise<Uint8Array> {
  if (sizeBytes > maxBytes) throw new LatchkeyError('LIMIT_EXCEEDED', `${what} is too large`);
  return file.read(offset, sizeBytes);
}

function digestInName(name: string): Digest | undefined {
  const [, blob, config] = DIGEST_NAME_PATTERN.exec(name) ?? [];
  const hex = blob ?? config;
  return hex === undefined ? undefined : digestFromHex(hex);
}

function notADockerArchive(location: string, members: TarMembers): LatchkeyError {
  const isOci = members.find('oci-layout') !== undefined;
  const isOld = members.find(REPOSITORIES_FILE) !== undefined;
  const hint = isOci
    ? `it is an OCI archive: write ${location.replace(/^docker-/, 'oci-')}`
    : isOld
      ? 'it was written by a Docker older than 1.10; load and save it with a newer one'
      : `docker save writes a file ${MANIFEST_FILE} at the root of its archive`;
  return new LatchkeyError('INPUT_NOT_AN_IMAGE', `${location} was not written by docker save`, { hint });
}

function readOnly(location: string): LatchkeyError {
  return new LatchkeyError('INPUT_REFERENCE_INVALID', `${location} can only be read`, {
    hint: 'write an oci-archive:FILE instead; docker load, podman load and skopeo read it too',
  });
}

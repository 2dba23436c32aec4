/**
 * Which files a tar has and where in it. Only headers are read, so the size of the files does not matter. Names and links
 * that leave the archive are refused although nothing is unpacked: whoever wrote them meant harm to somebody.
 */
import { createHash } from 'node:crypto';
import { dirname, posix } from 'node:path';
import { Readable, pipeline } from 'node:stream';
import { extract, type Header } from 'tar-stream';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  MAX_ARCHIVE_LINKS,
  MAX_ARCHIVE_MEMBERS,
  MAX_ARCHIVE_NAME_CHARACTERS,
  MAX_TAR_HEADER_BYTES,
} from '#src/base/limits.ts';
import { digestFromHex, type Digest } from '#src/oci/digest.ts';
import type { RandomAccessFile } from './random-access-file.ts';
import type { SpooledStream } from './spool.ts';
import { throwIfAborted } from './verified-stream.ts';

export interface TarMember {
  /** Of its content, in bytes from the archive's start. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** A header as the parser truly gives it: null where it found nothing it knows. */
interface ParsedHeader {
  readonly name: string;
  readonly type: Header['type'] | null;
  readonly linkname: string | null;
  readonly size: number | null;
  /** Where the parser stood after the header. */
  readonly byteOffset: number;
}

type Entry = { readonly member: TarMember } | { readonly target: string } | 'directory';

const BLOCK_BYTES = 512;

/** The files of an archive by their names, links followed. */
export class TarMembers {
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #location: string;

  private constructor(entries: ReadonlyMap<string, Entry>, location: string) {
    this.#entries = entries;
    this.#location = location;
  }

  /**
   * Reads the headers of an archive.
   * @throws LatchkeyError INPUT_NOT_AN_IMAGE when it is no tar, INPUT_MALFORMED, INPUT_TRUNCATED, LIMIT_EXCEEDED
   */
  static async read(archive: SpooledStream, location: string, signal?: AbortSignal): Promise<TarMembers> {
    const entries = new Map<string, Entry>();
    let count = 0;
    for (let offset = 0; ;) {
      throwIfAborted(signal);
      const found = await readHeader(archive.file, offset, location);
      if (found === undefined) break;
      if ((count += 1) > MAX_ARCHIVE_MEMBERS) {
        throw new LatchkeyError('LIMIT_EXCEEDED', `${location} has more than ${MAX_ARCHIVE_MEMBERS} files`);
      }
      const { header, contentOffset } = found;
      const name = safeName(header.name, location);
      const { entry, sizeBytes } = readEntry(header, name, contentOffset, location);
      addEntry(entries, name, entry, location);
      offset = contentOffset + Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
      if (contentOffset + sizeBytes > archive.sizeBytes) throw cutOff(location, name);
    }
    if (count === 0) throw notATar(location);
    return new TarMembers(entries, location);
  }

  /** Undefined when there is no file of that name. @throws LatchkeyError INPUT_MALFORMED for links in a circle */
  find(name: string): TarMember | undefined {
    let current = name;
    for (let hop = 0; hop <= MAX_ARCHIVE_LINKS; hop += 1) {
      const entry = this.#entries.get(current);
      if (entry === undefined || entry === 'directory') return undefined;
      if ('member' in entry) return entry.member;
      current = entry.target;
    }
    throw malformed(this.#location, `the link ${shown(name)} leads to no file`);
  }
}

/** The digest of a file in an archive. @throws LatchkeyError INTERRUPTED, STORAGE_FAILED */
export async function hashMember(
  file: RandomAccessFile,
  { offset, sizeBytes }: TarMember,
  signal?: AbortSignal,
): Promise<Digest> {
  const hash = createHash('sha256');
  for await (const chunk of file.chunks(offset, sizeBytes)) {
    throwIfAborted(signal);
    hash.update(chunk);
  }
  return digestFromHex(hash.digest('hex'));
}

/** The header at an offset; undefined at the end of the archive. */
async function readHeader(
  file: RandomAccessFile,
  offset: number,
  location: string,
): Promise<{ readonly header: ParsedHeader; readonly contentOffset: number } | undefined> {
  const first = await file.read(offset, BLOCK_BYTES);
  // A block of zeros ends the archive; some writers leave it out.
  if (first.every((byte) => byte === 0)) return undefined;
  if (first.length < BLOCK_BYTES) throw offset === 0 ? notATar(location) : cutOff(location, 'a header');
  const parser = extract();
  pipeline(Readable.from(headerBytes(file, offset, first)), parser, () => undefined);
  try {
    for await (const entry of parser) {
      const header = entry.header as unknown as ParsedHeader;
      return { header, contentOffset: offset + header.byteOffset };
    }
  } catch (error) {
    if (offset === 0) throw notATar(location, error);
    throw malformed(location, 'it has an unreadable header', error);
  }
  throw malformed(location, 'it has a header without a file');
}

async function* headerBytes(
  file: RandomAccessFile,
  offset: number,
  first: Uint8Array,
): AsyncGenerator<Uint8Array> {
  yield first;
  yield await file.read(offset + BLOCK_BYTES, MAX_TAR_HEADER_BYTES - BLOCK_BYTES);
}

function readEntry(
  header: ParsedHeader,
  name: string,
  offset: number,
  location: string,
): { readonly entry: Entry; readonly sizeBytes: number } {
  const { type, linkname, size } = header;
  // Numbers of unknown forms are null, and one a zero below zero; other readers may see others.
  if (size === null || !Number.isSafeInteger(size) || Object.is(size, -0)) {
    throw malformed(location, `the size of ${shown(name)} is unreadable`);
  }
  if (type === 'file' || type === 'contiguous-file') {
    return { entry: { member: { offset, sizeBytes: size } }, sizeBytes: size };
  }
  // Readers disagree about whether content follows; then one of them sees other files than we do.
  if (size !== 0) throw malformed(location, `${shown(name)} is no file but has content`);
  if (type === 'directory') return { entry: 'directory', sizeBytes: 0 };
  if (type !== 'symlink' && type !== 'link') {
    throw malformed(location, `${shown(name)} is a ${type ?? 'file of an unknown type'}`);
  }
  const target = linkname ?? '';
  if (target.startsWith('/')) throw malformed(location, `the link ${shown(name)} leads out of the archive`);
  // A symbolic link starts where it is, a hard link at the root.
  const path = type === 'symlink' ? posix.join(dirname(name), target) : target;
  return { entry: { target: safeName(path, location) }, sizeBytes: 0 };
}

function addEntry(entries: Map<string, Entry>, name: string, entry: Entry, location: string): void {
  const before = entries.get(name);
  const isSame =
    typeof before === 'object' && typeof entry === 'object' && 'target' in before && 'target' in entry
      ? before.target === entry.target
      : before === entry;
  // Which of two files counts depends on the reader.
  if (before !== undefined && !isSame) throw malformed(location, `it has ${shown(name)} twice`);
  entries.set(name, entry);
}

/** The name without `./` and trailing slashes. */
function safeName(name: string, location: string): string {
  if (name.length > MAX_ARCHIVE_NAME_CHARACTERS) throw malformed(location, 'it has an oversized file name');
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (name.startsWith('/') || name.includes('\0') || parts.includes('..')) {
    throw malformed(location, `the name ${shown(name)} leads out of the archive`);
  }
  return parts.join('/');
}

function shown(name: string): string {
  return JSON.stringify(name.slice(0, 100));
}

function cutOff(location: string, name: string): LatchkeyError {
  return new LatchkeyError('INPUT_TRUNCATED', `${location} ends within ${shown(name)}`, {
    hint: 'the archive is cut off; make or copy it again',
  });
}

function notATar(location: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('INPUT_NOT_AN_IMAGE', `${location} is not a tar archive`, {
    hint: 'an image archive is written by skopeo, buildah, podman save or docker save',
    cause,
  });
}

function malformed(location: string, reason: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', `${location}: ${reason}`, { cause });
}

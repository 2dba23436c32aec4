/**
 * Where an image is, as commands take it: `docker://REFERENCE` (or a plain reference) for a registry,
 * `oci:DIRECTORY[:TAG]` or `oci:DIRECTORY@DIGEST` for an OCI image layout, `oci-archive:FILE[:TAG]` for a layout in a
 * tar, `docker-archive:FILE[:REFERENCE]` for what `docker save` writes; FILE may be `-`. The names are skopeo's.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_REFERENCE_CHARACTERS } from '#src/base/limits.ts';
import { isDigest } from './digest.ts';
import { formatReference, parseReference, type ImageReference } from './reference.ts';

export interface RegistryLocation {
  readonly kind: 'registry';
  readonly reference: ImageReference;
}

export interface LayoutLocation {
  readonly kind: 'layout';
  readonly directory: string;
  /** Tag (`org.opencontainers.image.ref.name`) or digest; without one, the only image of the layout. */
  readonly reference?: string | undefined;
}

export interface ArchiveLocation {
  readonly kind: 'oci-archive' | 'docker-archive';
  /** {@link STANDARD_STREAM} for standard input or output. */
  readonly file: string;
  /** Like a layout's; in a docker archive `NAME:TAG`, or `@N` for its Nth image. */
  readonly reference?: string | undefined;
}

export type ImageLocation = RegistryLocation | LayoutLocation | ArchiveLocation;

/** In place of a file name: standard input when it is read, standard output when it is written. */
export const STANDARD_STREAM = '-';

const REGISTRY_PREFIX = 'docker://';
const FILE_PREFIXES = { layout: 'oci:', 'oci-archive': 'oci-archive:', 'docker-archive': 'docker-archive:' };
/** Transports of skopeo that we do not have; without this list they would read as a repository with a tag. */
const FOREIGN_TRANSPORT = /^(?:docker-daemon|containers-storage|dir|ostree|sif|tarball|https?|file):/;
/** Those whose images skopeo can turn into an archive. */
const STORAGE_TRANSPORT = /^(?:docker-daemon|containers-storage):/;
/** Reference names of an image layout (image-layout.md, "ref" grammar). */
const REFERENCE_NAME_PATTERN = /^[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*$/;
const DIGEST_SUFFIX_PATTERN = /^(.+)@(sha256:[0-9a-f]{64})$/s;
/** The Nth image of a docker archive, as skopeo writes it. */
const SOURCE_INDEX_PATTERN = /^@\d{1,4}$/;

/**
 * Parses a location.
 * @throws LatchkeyError INPUT_REFERENCE_INVALID
 */
export function parseLocation(text: string): ImageLocation {
  if (text.startsWith(REGISTRY_PREFIX)) {
    return { kind: 'registry', reference: parseReference(text.slice(REGISTRY_PREFIX.length)) };
  }
  for (const kind of ['layout', 'oci-archive', 'docker-archive'] as const) {
    const prefix = FILE_PREFIXES[kind];
    if (!text.startsWith(prefix)) continue;
    const { path, ...found } = splitPath(text, kind, text.slice(prefix.length));
    return kind === 'layout' ? { kind, directory: path, ...found } : { kind, file: path, ...found };
  }
  const foreign = FOREIGN_TRANSPORT.exec(text)?.[0];
  if (foreign !== undefined) throw invalid(text, `"${foreign}" is not supported`, foreignHint(text));
  if (/^(?:\.{0,2}\/|~)/.test(text)) {
    throw invalid(text, 'it looks like a path', pathHint(text));
  }
  return { kind: 'registry', reference: parseReference(text) };
}

/** The location as it would be typed; {@link parseLocation} gives an equal value from it. */
export function formatLocation(location: ImageLocation): string {
  if (location.kind === 'registry') return `${REGISTRY_PREFIX}${formatReference(location.reference)}`;
  const path = location.kind === 'layout' ? location.directory : location.file;
  const named = `${FILE_PREFIXES[location.kind]}${path}`;
  const { reference } = location;
  if (reference === undefined) return named;
  const isPinned = location.kind !== 'docker-archive' && isDigest(reference);
  return `${named}${isPinned ? '@' : ':'}${reference}`;
}

/** The first colon ends the path, as in skopeo, because tags of a layout may hold colons. */
function splitPath(
  text: string,
  kind: keyof typeof FILE_PREFIXES,
  rest: string,
): { path: string; reference?: string } {
  const pinned = DIGEST_SUFFIX_PATTERN.exec(rest);
  if (kind !== 'docker-archive' && pinned?.[1] !== undefined && !pinned[1].includes(':')) {
    return { path: checkPath(text, kind, pinned[1]), reference: pinned[2] ?? '' };
  }
  const colon = rest.indexOf(':');
  if (colon < 0) return { path: checkPath(text, kind, rest) };
  const reference = rest.slice(colon + 1);
  if (kind === 'docker-archive') checkDockerReference(text, reference);
  else if (reference.length > MAX_REFERENCE_CHARACTERS || !REFERENCE_NAME_PATTERN.test(reference)) {
    throw invalid(text, `${JSON.stringify(reference.slice(0, 100))} is not a tag`, `write ${usage(kind)}`);
  }
  return { path: checkPath(text, kind, rest.slice(0, colon)), reference };
}

function checkDockerReference(text: string, reference: string): void {
  if (SOURCE_INDEX_PATTERN.test(reference)) return;
  if (parseReference(reference).digest === undefined) return;
  throw invalid(text, 'docker archives know no digests', `write ${usage('docker-archive')}`);
}

function checkPath(text: string, kind: keyof typeof FILE_PREFIXES, path: string): string {
  const what = kind === 'layout' ? 'directory' : 'file';
  if (path === '') throw invalid(text, `the ${what} is missing`, `write ${usage(kind)}`);
  if (path.includes('\0')) throw invalid(text, `the ${what} has a NUL character`);
  return path;
}

function usage(kind: keyof typeof FILE_PREFIXES): string {
  if (kind === 'layout') return 'oci:DIRECTORY or oci:DIRECTORY:TAG';
  return kind === 'oci-archive'
    ? 'oci-archive:FILE or oci-archive:FILE:TAG'
    : 'docker-archive:FILE or docker-archive:FILE:NAME:TAG';
}

function foreignHint(text: string): string {
  if (STORAGE_TRANSPORT.test(text)) {
    // The image's name goes into a command line that people copy.
    const isPlain = /^[\w.:/@[\]+-]+$/.test(text);
    return `make an archive of it first: skopeo copy ${isPlain ? text : 'IMAGE'} oci-archive:image.tar`;
  }
  return 'write docker://HOST/NAME:TAG, oci:DIRECTORY:TAG, oci-archive:FILE:TAG or docker-archive:FILE';
}

function pathHint(text: string): string {
  if (!/\.(?:tar|tgz|tar\.gz|tar\.zst)$/.test(text)) return `for an image layout on disk write oci:${text}`;
  return `for an image in a tar write oci-archive:${text} or, of docker save, docker-archive:${text}`;
}

function invalid(text: string, reason: string, hint?: string): LatchkeyError {
  const shown = JSON.stringify(text.slice(0, 100));
  return new LatchkeyError('INPUT_REFERENCE_INVALID', `${shown} is not an image location: ${reason}`, {
    hint,
  });
}

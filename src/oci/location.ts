/**
 * Where an image is, as commands take it: `docker://REFERENCE` (or a plain reference) for a registry,
 * `oci:DIRECTORY[:TAG]` or `oci:DIRECTORY@DIGEST` for an OCI image layout. The names are skopeo's.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_REFERENCE_CHARACTERS } from '#src/base/limits.ts';
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

export type ImageLocation = RegistryLocation | LayoutLocation;

const REGISTRY_PREFIX = 'docker://';
const LAYOUT_PREFIX = 'oci:';
/** Transports of skopeo that we do not have; without this list they would read as a repository with a tag. */
const FOREIGN_TRANSPORT =
  /^(?:oci-archive|docker-archive|docker-daemon|containers-storage|dir|ostree|sif|tarball|https?|file):/;
/** Reference names of an image layout (image-layout.md, "ref" grammar). */
const REFERENCE_NAME_PATTERN = /^[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*$/;
const DIGEST_SUFFIX_PATTERN = /^(.+)@(sha256:[0-9a-f]{64})$/s;

/**
 * Parses a location.
 * @throws LatchkeyError INPUT_REFERENCE_INVALID
 */
export function parseLocation(text: string): ImageLocation {
  if (text.startsWith(LAYOUT_PREFIX)) return parseLayoutLocation(text);
  if (text.startsWith(REGISTRY_PREFIX)) {
    return { kind: 'registry', reference: parseReference(text.slice(REGISTRY_PREFIX.length)) };
  }
  const foreign = FOREIGN_TRANSPORT.exec(text)?.[0];
  if (foreign !== undefined) {
    throw invalid(text, `"${foreign}" is not supported`, 'write docker://HOST/NAME:TAG or oci:DIRECTORY:TAG');
  }
  if (/^(?:\.{0,2}\/|~)/.test(text)) {
    throw invalid(text, 'it looks like a path', `for an image layout on disk write oci:${text}`);
  }
  return { kind: 'registry', reference: parseReference(text) };
}

/** The location as it would be typed; {@link parseLocation} gives an equal value from it. */
export function formatLocation(location: ImageLocation): string {
  if (location.kind === 'registry') return `${REGISTRY_PREFIX}${formatReference(location.reference)}`;
  const { directory, reference } = location;
  if (reference === undefined) return `${LAYOUT_PREFIX}${directory}`;
  return `${LAYOUT_PREFIX}${directory}${reference.startsWith('sha256:') ? '@' : ':'}${reference}`;
}

/** The first colon ends the directory, as in skopeo, because tags of a layout may hold colons. */
function parseLayoutLocation(text: string): LayoutLocation {
  const rest = text.slice(LAYOUT_PREFIX.length);
  const pinned = DIGEST_SUFFIX_PATTERN.exec(rest);
  if (pinned?.[1] !== undefined && !pinned[1].includes(':')) {
    return { kind: 'layout', directory: checkDirectory(text, pinned[1]), reference: pinned[2] };
  }
  const colon = rest.indexOf(':');
  if (colon < 0) return { kind: 'layout', directory: checkDirectory(text, rest) };
  const reference = rest.slice(colon + 1);
  if (reference.length > MAX_REFERENCE_CHARACTERS || !REFERENCE_NAME_PATTERN.test(reference)) {
    throw invalid(text, `${JSON.stringify(reference.slice(0, 100))} is not a tag`, 'write oci:DIRECTORY:TAG');
  }
  return { kind: 'layout', directory: checkDirectory(text, rest.slice(0, colon)), reference };
}

function checkDirectory(text: string, directory: string): string {
  if (directory === '')
    throw invalid(text, 'the directory is missing', 'write oci:DIRECTORY or oci:DIRECTORY:TAG');
  if (directory.includes('\0')) throw invalid(text, 'the directory has a NUL character');
  return directory;
}

function invalid(text: string, reason: string, hint?: string): LatchkeyError {
  const shown = JSON.stringify(text.slice(0, 100));
  return new LatchkeyError('INPUT_REFERENCE_INVALID', `${shown} is not an image location: ${reason}`, {
    hint,
  });
}

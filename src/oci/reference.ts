/**
 * Image references as people write them (distribution/reference grammar): `[host[:port]/]path[:tag][@digest]`,
 * where Docker Hub and its `library/` are left out.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_REFERENCE_CHARACTERS, MAX_REPOSITORY_CHARACTERS } from '#src/base/limits.ts';
import { isDigest, type Digest } from './digest.ts';

export interface ImageReference {
  /** Host and optional port, `docker.io` for Docker Hub. */
  readonly registry: string;
  /** Path within the registry, `library/nginx`. */
  readonly repository: string;
  readonly tag?: string | undefined;
  readonly digest?: Digest | undefined;
}

const DEFAULT_REGISTRY = 'docker.io';
const DEFAULT_REGISTRY_ALIAS = 'index.docker.io';
const DEFAULT_NAMESPACE = 'library';
const DEFAULT_TAG = 'latest';

const HOST_PATTERN =
  /^(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*)(?::([0-9]{1,5}))?$/;
const PATH_COMPONENT_PATTERN = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG_PATTERN = /^\w[\w.-]{0,127}$/;
const BARE_DIGEST_PATTERN = /^[0-9a-f]{64}$/;
const MAX_PORT = 65_535;

/**
 * Parses a reference; without tag and digest the tag is `latest`.
 * @throws LatchkeyError INPUT_REFERENCE_INVALID
 */
export function parseReference(text: string): ImageReference {
  if (text.length > MAX_REFERENCE_CHARACTERS) {
    throw invalid(text, `it is longer than ${MAX_REFERENCE_CHARACTERS} characters`);
  }
  if (text === '') throw invalid(text, 'it is empty', 'write it as host/name:tag');
  const [beforeDigest, digest] = splitDigest(text);
  const [name, tag] = splitTag(text, beforeDigest);
  const [registry, repository] = splitRegistry(name);
  checkRegistry(text, registry);
  checkRepository(text, repository);
  if (digest !== undefined) return { registry, repository, tag, digest };
  return { registry, repository, tag: tag ?? DEFAULT_TAG };
}

/** The full form, from which {@link parseReference} gives an equal value. */
export function formatReference(reference: ImageReference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${reference.registry}/${reference.repository}${tag}${digest}`;
}

/** What a registry is asked for: the digest when there is one, else the tag. */
export function referenceTarget(reference: ImageReference): string {
  return reference.digest ?? reference.tag ?? DEFAULT_TAG;
}

/** True for a well-formed tag. */
export function isTag(text: string): boolean {
  return TAG_PATTERN.test(text);
}

function splitDigest(text: string): [string, Digest | undefined] {
  const at = text.indexOf('@');
  if (at < 0) return [text, undefined];
  const digest = text.slice(at + 1);
  if (!isDigest(digest)) {
    throw invalid(
      text,
      'what follows "@" is not a digest',
      'a digest is sha256: and 64 lower-case hex digits',
    );
  }
  return [text.slice(0, at), digest];
}

/** A colon after the last slash starts the tag; one before it belongs to the port. */
function splitTag(text: string, name: string): [string, string | undefined] {
  const colon = name.lastIndexOf(':');
  if (colon < 0 || colon < name.lastIndexOf('/')) return [name, undefined];
  const tag = name.slice(colon + 1);
  if (!isTag(tag)) {
    throw invalid(text, `"${tag}" is not a tag`, 'a tag is up to 128 letters, digits, "_", "." and "-"');
  }
  return [name.slice(0, colon), tag];
}

/** Only a first component that looks like a host is one: it has a dot, a port or an upper-case letter, or is localhost. */
function splitRegistry(name: string): [string, string] {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isHost = /[.:[A-Z]/.test(first) || first === 'localhost';
  const registry = isHost && first !== DEFAULT_REGISTRY_ALIAS ? first : DEFAULT_REGISTRY;
  const path = isHost ? name.slice(slash + 1) : name;
  if (registry === DEFAULT_REGISTRY && !path.includes('/')) return [registry, `${DEFAULT_NAMESPACE}/${path}`];
  return [registry, path];
}

function checkRegistry(text: string, registry: string): void {
  const match = HOST_PATTERN.exec(registry);
  // Numbers and dots that are no address, such as 999.1.1.1, fit the pattern.
  if (match === null || !URL.canParse(`https://${registry}`)) {
    throw invalid(text, `"${registry}" is not a registry host`);
  }
  if (match[1] !== undefined && Number(match[1]) > MAX_PORT) {
    throw invalid(text, `${match[1]} is not a port`);
  }
}

function checkRepository(text: string, repository: string): void {
  if (repository.length > MAX_REPOSITORY_CHARACTERS) {
    throw invalid(text, `the repository name is longer than ${MAX_REPOSITORY_CHARACTERS} characters`);
  }
  if (BARE_DIGEST_PATTERN.test(repository.slice(repository.lastIndexOf('/') + 1))) {
    throw invalid(text, 'it is a bare image ID', 'name the image, and pin it as name@sha256:...');
  }
  for (const component of repository.split('/')) {
    if (PATH_COMPONENT_PATTERN.test(component)) continue;
    const hint = /[A-Z]/.test(component)
      ? `repository names are lower case: ${repository.toLowerCase()}`
      : 'repository names are lower-case letters and digits, joined by ".", "_", "-" and "/"';
    throw invalid(text, `"${component}" cannot be part of a repository name`, hint);
  }
}

function invalid(text: string, reason: string, hint?: string): LatchkeyError {
  const shown = JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text);
  return new LatchkeyError('INPUT_REFERENCE_INVALID', `${shown} is not an image reference: ${reason}`, {
    hint,
  });
}

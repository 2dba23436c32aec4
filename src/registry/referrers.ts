/**
 * Manifests that refer to another one (distribution spec, "Listing Referrers"). Registries without that API keep the
 * list as an index under a tag that clients maintain ("Referrers Tag Schema").
 */
import { LatchkeyError } from '#src/base/errors.ts';
import {
  MAX_MANIFEST_BYTES,
  MAX_REFERRERS,
  MAX_REFERRERS_TAG_ATTEMPTS,
  MAX_REFERRER_PAGES,
  REFERRERS_TAG_SETTLE_MS,
} from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseIndex, type ImageIndex } from '#src/oci/index.ts';
import { MEDIA_TYPE, isIndex } from '#src/oci/media-types.ts';
import { referrersTag, selectReferrers, type Referrer } from '#src/store/referrers.ts';
import { nextPage } from './link.ts';
import { getManifest, putManifest } from './manifest-client.ts';
import type { Repository } from './repository.ts';
import type { RegistryResponse } from './transport.ts';

const OK = 200;
const NOT_FOUND = 404;
/** What registries answer that do not know the path. */
const UNKNOWN_PATH_STATUSES = [400, NOT_FOUND, 405];

/**
 * Lists referrers.
 * @param artifactType asks for this type only; checked here too, as registries may ignore it
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED, NET_*
 */
export async function listReferrers(
  repository: Repository,
  subject: Digest,
  artifactType: string | undefined,
  signal?: AbortSignal,
): Promise<readonly Descriptor[]> {
  const first = repository.url(`referrers/${subject}`);
  if (artifactType !== undefined) first.searchParams.set('artifactType', artifactType);
  const found: Descriptor[] = [];
  let url: URL | undefined = first;
  for (let page = 1; url !== undefined; page += 1) {
    if (page > MAX_REFERRER_PAGES) throw tooMany(repository, `${MAX_REFERRER_PAGES} pages of referrers`);
    const response: RegistryResponse = await getPage(repository, url, page === 1, signal);
    if (page === 1 && !isReferrersAnswer(response)) {
      return selectReferrers((await readTag(repository, subject, signal)).manifests, artifactType);
    }
    found.push(...parseIndex(response.bytes, MAX_REFERRERS).manifests);
    if (found.length > MAX_REFERRERS) throw tooMany(repository, `${MAX_REFERRERS} referrers`);
    url = nextPage(response.headers, response.url);
  }
  return selectReferrers(found, artifactType);
}

/**
 * Adds a referrer to the tag that lists those of its subject. Registries do not let a client say "only if nobody
 * changed it", so after a short while it is read again, and a change that another client overwrote is repeated.
 * @throws LatchkeyError STATE_CONFLICT when others overwrite it each time, INPUT_MALFORMED, LIMIT_EXCEEDED, NET_*
 */
export async function addToReferrersTag(
  repository: Repository,
  { subject, descriptor }: Referrer,
  signal?: AbortSignal,
): Promise<void> {
  const tag = referrersTag(subject);
  for (let attempt = 1; attempt <= MAX_REFERRERS_TAG_ATTEMPTS; attempt += 1) {
    const index = await readTag(repository, subject, signal);
    if (index.manifests.some(({ digest }) => digest === descriptor.digest)) return;
    if (index.manifests.length >= MAX_REFERRERS) throw tooMany(repository, `${MAX_REFERRERS} referrers`);
    const changed = { ...index, mediaType: MEDIA_TYPE.ociIndex, manifests: [...index.manifests, descriptor] };
    await putManifest(repository, encodeImageDocument(changed), tag, signal);
    // Random, so that two clients that collided do not collide again.
    const pauseMs = REFERRERS_TAG_SETTLE_MS * (1 + repository.timing.random());
    await repository.timing.sleep(pauseMs, signal);
    const settled = await readTag(repository, subject, signal);
    if (settled.manifests.some(({ digest }) => digest === descriptor.digest)) return;
  }
  throw new LatchkeyError('STATE_CONFLICT', `other clients keep overwriting ${repository.location}:${tag}`, {
    hint: 'run the same command again when no other release is under way',
  });
}

function getPage(
  repository: Repository,
  url: URL,
  isFirst: boolean,
  signal: AbortSignal | undefined,
): Promise<RegistryResponse> {
  return repository.send(
    { method: 'GET', url, headers: { accept: MEDIA_TYPE.ociIndex }, answer: MAX_MANIFEST_BYTES, signal },
    isFirst ? [OK, ...UNKNOWN_PATH_STATUSES] : [OK],
    'list the referrers in',
  );
}

/** Some servers answer unknown paths with a page for people. */
function isReferrersAnswer(response: RegistryResponse): boolean {
  const mediaType = response.headers.get('content-type')?.split(';')[0]?.trim() ?? '';
  return response.status === OK && isIndex(mediaType);
}

/** The list under the tag; an empty one when there is no tag yet. */
async function readTag(
  repository: Repository,
  subject: Digest,
  signal: AbortSignal | undefined,
): Promise<ImageIndex> {
  const tag = referrersTag(subject);
  try {
    const { bytes, descriptor } = await getManifest(repository, tag, { signal });
    if (isIndex(descriptor.mediaType)) return parseIndex(bytes, MAX_REFERRERS);
  } catch (error) {
    if (error instanceof LatchkeyError && error.code === 'STATE_NOT_FOUND') {
      return { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: [] };
    }
    throw error;
  }
  throw new LatchkeyError('INPUT_MALFORMED', `${repository.location}:${tag} is not a list of referrers`, {
    hint: 'the tag is reserved for such lists; remove it from the registry',
  });
}

function tooMany(repository: Repository, what: string): LatchkeyError {
  return new LatchkeyError('LIMIT_EXCEEDED', `${repository.location} has more than ${what} for one image`);
}

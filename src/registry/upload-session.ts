/** An upload under way (distribution spec, "Pushing a blob in chunks"): the URL the registry gave, and how far it got. */
import type { Digest } from '#src/oci/digest.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { resolveLocation } from './redirect.ts';
import type { Repository } from './repository.ts';
import type { RegistryResponse } from './transport.ts';

export interface UploadSession {
  readonly url: URL;
  /** Bytes the registry has. */
  readonly offset: number;
}

const OK = 200;
const ACCEPTED = 202;
const NO_CONTENT = 204;
/** The registry forgot the session, or holds it in a state it cannot go on from. */
const LOST_SESSION_STATUSES = [400, 404, 416];
const PUSH = 'push to';

/**
 * Opens an upload.
 * @throws LatchkeyError NET_*
 */
export async function startUpload(repository: Repository, signal?: AbortSignal): Promise<UploadSession> {
  const response = await repository.send(
    { method: 'POST', url: repository.url('blobs/uploads/'), scopes: [repository.pushScope], signal },
    [ACCEPTED],
    PUSH,
  );
  return sessionAfter(response, 0);
}

/**
 * The session to go on with after a cut: the same from where the registry got to, or a new one.
 * @throws LatchkeyError NET_*
 */
export async function resumeUpload(
  repository: Repository,
  session: UploadSession,
  signal?: AbortSignal,
): Promise<UploadSession> {
  const response = await repository.send(
    { method: 'GET', url: session.url, scopes: [repository.pushScope], signal },
    [OK, NO_CONTENT, ...LOST_SESSION_STATUSES],
    PUSH,
  );
  // `0-0` means one byte or none, so such a session is not worth the doubt.
  const end = /^(?:bytes=)?0-(\d+)$/.exec(response.headers.get('range') ?? '')?.[1];
  const lastByte = end === undefined ? 0 : Number(end);
  if (LOST_SESSION_STATUSES.includes(response.status) || lastByte === 0)
    return startUpload(repository, signal);
  const location = response.headers.get('location');
  return {
    url: location === null ? session.url : resolveLocation(location, response.url),
    offset: lastByte + 1,
  };
}

/**
 * The session that an answer to POST or PATCH names.
 * @throws LatchkeyError NET_REGISTRY
 */
export function sessionAfter(response: RegistryResponse, offset: number): UploadSession {
  const location = response.headers.get('location');
  if (location === null) {
    throw new LatchkeyError('NET_REGISTRY', `${response.url.host} accepted an upload but did not say where`);
  }
  return { url: resolveLocation(location, response.url), offset };
}

/** The URL that closes a session. The query is only added to: registries sign what is in it. */
export function closingUrl(session: UploadSession, digest: Digest): URL {
  const url = new URL(session.url);
  url.search = `${url.search}${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`;
  return url;
}

/** Gives a session up; a registry that cannot do that drops it by its own time limit. */
export async function cancelUpload(
  repository: Repository,
  session: UploadSession,
  signal?: AbortSignal,
): Promise<void> {
  await repository
    .send(
      { method: 'DELETE', url: session.url, scopes: [repository.pushScope], retry: false, signal },
      [],
      PUSH,
    )
    .catch(() => undefined);
}

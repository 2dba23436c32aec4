/** Blobs that need no push: the repository has them, or the registry can take them from another repository. */
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { BROKEN_RECORD } from './registry-error.ts';
import type { Repository } from './repository.ts';
import { cancelUpload, sessionAfter } from './upload-session.ts';

const OK = 200;
const CREATED = 201;
const ACCEPTED = 202;
const NOT_FOUND = 404;
/** A refusal to mount is no refusal to push; the push that follows tells. */
const MOUNT_REFUSALS = [400, 401, 403, NOT_FOUND, 405, BROKEN_RECORD];

/**
 * True when the repository has the blob, of the same size where the registry says one.
 * @throws LatchkeyError NET_*
 */
export async function hasRemoteBlob(
  repository: Repository,
  descriptor: Descriptor,
  signal?: AbortSignal,
): Promise<boolean> {
  const response = await repository.send(
    {
      method: 'HEAD',
      url: repository.url(`blobs/${descriptor.digest}`),
      scopes: [repository.pushScope],
      signal,
    },
    [OK, NOT_FOUND, BROKEN_RECORD],
    `look for ${descriptor.digest} in`,
  );
  if (response.status !== OK) return false;
  const length = response.headers.get('content-length');
  return length === null || Number(length) === descriptor.size;
}

/**
 * Asks the registry to take a blob over from another of its repositories (distribution spec, "Mounting a blob from
 * another repository"); false when it does not.
 * @throws LatchkeyError NET_*
 */
export async function mountRemoteBlob(
  repository: Repository,
  from: Repository,
  digest: Digest,
  signal?: AbortSignal,
): Promise<boolean> {
  const url = repository.url('blobs/uploads/');
  url.searchParams.set('mount', digest);
  url.searchParams.set('from', from.name);
  const response = await repository.send(
    { method: 'POST', url, scopes: [repository.pushScope, from.pullScope], signal },
    [CREATED, ACCEPTED, ...MOUNT_REFUSALS],
    'push to',
  );
  // It opened an upload instead, which nobody will use.
  if (response.status === ACCEPTED) await cancelUpload(repository, sessionAfter(response, 0), signal);
  return response.status === CREATED;
}

/**
 * A blob pushed to a repository (distribution spec, "Pushing blobs"): opened with POST, streamed with PATCH, closed
 * with a PUT that names the digest. After a cut the registry is asked how far it got.
 */
import type { LatchkeyError } from '#src/base/errors.ts';
import {
  MAX_RETRY_AFTER_MS,
  MAX_TRANSFER_CUTS,
  MIN_TRANSFER_GAIN_BYTES,
  MIN_UPLOAD_PIECE_BYTES,
} from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import { hasRemoteBlob } from './blob-reuse.ts';
import { backoffMs, PASSING_STATUSES, passes, retryAfterMs } from './retry.ts';
import type { Repository } from './repository.ts';
import type { RegistryResponse } from './transport.ts';
import { createUploadContent, type UploadContent } from './upload-content.ts';
import { closingUrl, resumeUpload, sessionAfter, startUpload, type UploadSession } from './upload-session.ts';

const CREATED_STATUSES = [201, 204];
const ACCEPTED_STATUSES = [202, 201, 204];
/** "Not now", and "I do not know this upload". */
const CUT_STATUSES = [...PASSING_STATUSES, 404, 416];
/** Proxies bound the length of a request. */
const TOO_LARGE = 413;
const PUSH = 'push to';

/** A push that stopped on its way and can go on. */
interface Cut {
  readonly error: LatchkeyError;
  /** What the registry asked us to wait. */
  readonly waitMs: number;
  /** The length of a piece that the registry, or a proxy before it, found too large. */
  readonly refusedBytes?: number | undefined;
}

/**
 * Pushes a blob, whatever the repository has already: in one piece, and in smaller ones when that is refused as too large.
 * @param open gives the content from its start; called again after a cut
 * @throws LatchkeyError what the content raises, INPUT_DIGEST_MISMATCH, INPUT_TRUNCATED, NET_*, INTERRUPTED
 */
export async function uploadBlob(
  repository: Repository,
  descriptor: Descriptor,
  open: () => AsyncIterable<Uint8Array>,
  options: TransferOptions = {},
): Promise<void> {
  const { signal } = options;
  const { timing } = repository;
  const content = createUploadContent(descriptor, open, repository.location, {
    signal,
    onPosition: reportOnce(options.onBytes),
  });
  let session = await startUpload(repository, signal);
  let pieceBytes = descriptor.size;
  let cuts = 0;
  /** How far the registry got at best. */
  let farthest = 0;
  try {
    for (;;) {
      const cut = await push(repository, session, descriptor, content, pieceBytes, signal);
      if (cut === undefined) return;
      // The answer to the closing request may be all that was lost.
      if (await hasRemoteBlob(repository, descriptor, signal)) return;
      if (cut.refusedBytes === undefined) {
        cuts += 1;
        if (cuts > MAX_TRANSFER_CUTS || cut.waitMs > MAX_RETRY_AFTER_MS) throw cut.error;
        await timing.sleep(Math.max(cut.waitMs, backoffMs(cuts, timing.random())), signal);
      } else {
        if (cut.refusedBytes <= MIN_UPLOAD_PIECE_BYTES) throw cut.error;
        pieceBytes = Math.max(MIN_UPLOAD_PIECE_BYTES, Math.floor(cut.refusedBytes / 2));
      }
      const resumed = await resumeUpload(repository, session, signal);
      // One that takes a few bytes at a time, or forgets what it took, would hold us for ever.
      if (resumed.offset >= farthest + MIN_TRANSFER_GAIN_BYTES) {
        farthest = resumed.offset;
        cuts = 0;
      }
      session = resumed;
    }
  } finally {
    await content.close();
  }
}

/** Sends what is missing, piece by piece, and closes the upload; undefined when the registry has the blob. */
async function push(
  repository: Repository,
  session: UploadSession,
  descriptor: Descriptor,
  content: UploadContent,
  pieceBytes: number,
  signal: AbortSignal | undefined,
): Promise<Cut | undefined> {
  const shared = { scopes: [repository.pushScope], signal };
  try {
    let current = session;
    while (current.offset < descriptor.size) {
      const { offset } = current;
      const end = Math.min(offset + pieceBytes, descriptor.size);
      const headers = {
        'content-type': 'application/octet-stream',
        'content-length': String(end - offset),
        'content-range': `${offset}-${end - 1}`,
      };
      const body = (): AsyncIterable<Uint8Array> => content.range(offset, end);
      const patch = { ...shared, method: 'PATCH', url: current.url, headers, body, retry: false } as const;
      const response = await repository.send(patch, [...ACCEPTED_STATUSES, ...CUT_STATUSES, TOO_LARGE], PUSH);
      if (response.status === TOO_LARGE)
        return { ...cutBy(repository, response), refusedBytes: end - offset };
      if (CUT_STATUSES.includes(response.status)) return cutBy(repository, response);
      current = sessionAfter(response, end);
    }
    const put = { ...shared, method: 'PUT', url: closingUrl(current, descriptor.digest) } as const;
    const closed = await repository.send(put, [...CREATED_STATUSES, ...CUT_STATUSES], PUSH);
    return CUT_STATUSES.includes(closed.status) ? cutBy(repository, closed) : undefined;
  } catch (error) {
    // When our own source failed, the failure of the connection is only its echo.
    if (content.failure !== undefined) throw content.failure.error as Error;
    if (passes(error)) return { error, waitMs: 0 };
    throw error;
  }
}

function cutBy(repository: Repository, response: RegistryResponse): Cut {
  const nowMs = repository.timing.clock.nowMs();
  return {
    error: repository.failure(response, PUSH),
    waitMs: PASSING_STATUSES.has(response.status) ? retryAfterMs(response, nowMs) : 0,
  };
}

/** Reports each byte of the blob once, however often it is sent. */
function reportOnce(onBytes: TransferOptions['onBytes']): (position: number) => void {
  let reported = 0;
  return (position) => {
    if (position <= reported) return;
    onBytes?.(position - reported);
    reported = position;
  };
}

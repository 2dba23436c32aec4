/**
 * A blob pushed to a repository (distribution spec, "Pushing blobs"): opened with POST, streamed with one PATCH, closed
 * with a PUT that names the digest. After a cut the registry is asked how far it got.
 */
import type { LatchkeyError } from '#src/base/errors.ts';
import { MAX_RETRY_AFTER_MS, MAX_TRANSFER_CUTS } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import { verifiedStream } from '#src/store/verified-stream.ts';
import { hasRemoteBlob } from './blob-reuse.ts';
import { backoffMs, isPassingStatus, passes, retryAfterMs } from './retry.ts';
import type { Repository } from './repository.ts';
import type { RegistryResponse } from './transport.ts';
import { closingUrl, resumeUpload, sessionAfter, startUpload, type UploadSession } from './upload-session.ts';

const CREATED_STATUSES = [201, 204];
const ACCEPTED_STATUSES = [202, 201, 204];
/** "Not now", and "I do not know this upload". */
const CUT_STATUSES = [408, 429, 500, 502, 503, 504, 404, 416];
const PUSH = 'push to';

/** A push that stopped on its way and can go on. */
interface Cut {
  readonly error: LatchkeyError;
  /** What the registry asked us to wait. */
  readonly waitMs: number;
}

/**
 * Pushes a blob, whatever the repository has already.
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
  const report = reportOnce(options.onBytes);
  let session = await startUpload(repository, signal);
  let cuts = 0;
  for (;;) {
    const cut = await push(repository, session, descriptor, open, report, signal);
    if (cut === undefined) return;
    // The answer to the closing request may be all that was lost.
    if (await hasRemoteBlob(repository, descriptor, signal)) return;
    cuts += 1;
    if (cuts > MAX_TRANSFER_CUTS || cut.waitMs > MAX_RETRY_AFTER_MS) throw cut.error;
    await timing.sleep(Math.max(cut.waitMs, backoffMs(cuts, timing.random())), signal);
    const resumed = await resumeUpload(repository, session, signal);
    if (resumed.offset > session.offset) cuts = 0;
    session = resumed;
  }
}

/** Sends what is missing and closes the upload; undefined when the registry has the blob. */
async function push(
  repository: Repository,
  session: UploadSession,
  descriptor: Descriptor,
  open: () => AsyncIterable<Uint8Array>,
  report: (position: number) => void,
  signal: AbortSignal | undefined,
): Promise<Cut | undefined> {
  let sourceError: unknown;
  async function* body(): AsyncGenerator<Uint8Array, void, undefined> {
    let position = 0;
    try {
      // Verified from its first byte, also when only its end is sent.
      for await (const chunk of verifiedStream(open(), descriptor, repository.location, { signal })) {
        const known = Math.max(0, session.offset - position);
        position += chunk.length;
        if (known < chunk.length) yield chunk.subarray(known);
        report(position);
      }
    } catch (error) {
      sourceError = error;
      throw error;
    }
  }

  const shared = { scopes: [repository.pushScope], signal };
  try {
    let current = session;
    if (session.offset < descriptor.size) {
      const headers = {
        'content-type': 'application/octet-stream',
        'content-length': String(descriptor.size - session.offset),
        'content-range': `${session.offset}-${descriptor.size - 1}`,
      };
      const patch = { ...shared, method: 'PATCH', url: session.url, headers, body, retry: false } as const;
      const response = await repository.send(patch, [...ACCEPTED_STATUSES, ...CUT_STATUSES], PUSH);
      if (CUT_STATUSES.includes(response.status)) return cutBy(repository, response);
      current = sessionAfter(response, descriptor.size);
    }
    const put = { ...shared, method: 'PUT', url: closingUrl(current, descriptor.digest) } as const;
    const closed = await repository.send(put, [...CREATED_STATUSES, ...CUT_STATUSES], PUSH);
    return CUT_STATUSES.includes(closed.status) ? cutBy(repository, closed) : undefined;
  } catch (error) {
    // When our own source failed, the failure of the connection is only its echo.
    if (sourceError !== undefined) throw sourceError as Error;
    if (passes(error)) return { error, waitMs: 0 };
    throw error;
  }
}

function cutBy(repository: Repository, response: RegistryResponse): Cut {
  const nowMs = repository.timing.clock.nowMs();
  return {
    error: repository.failure(response, PUSH),
    waitMs: isPassingStatus(response.status) ? retryAfterMs(response, nowMs) : 0,
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

/** A blob streamed from a repository (distribution spec, "Pulling blobs"), resumed where a lost connection left off. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_TRANSFER_CUTS, MIN_TRANSFER_GAIN_BYTES } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import { verifiedStream } from '#src/store/verified-stream.ts';
import { createLinePatience } from './line-patience.ts';
import { networkError } from './network-error.ts';
import { backoffMs, passes } from './retry.ts';
import type { Repository } from './repository.ts';
import type { RegistryResponse } from './transport.ts';

const OK = 200;
const PARTIAL = 206;
const RANGE_NOT_SATISFIABLE = 416;

/**
 * Streams a blob; length and digest are checked as {@link verifiedStream} does, across resumed connections.
 * @throws LatchkeyError STATE_NOT_FOUND, INPUT_TRUNCATED, INPUT_DIGEST_MISMATCH, NET_*, INTERRUPTED
 */
export function downloadBlob(
  repository: Repository,
  descriptor: Descriptor,
  options: TransferOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = resumedChunks(repository, descriptor, options.signal);
  return verifiedStream(chunks, descriptor, repository.location, options);
}

/** Ends early, without an error, when the registry itself has no more than that; the check behind then says so. */
async function* resumedChunks(
  repository: Repository,
  descriptor: Descriptor,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  let offset = 0;
  let cuts = 0;
  for (;;) {
    // Either the caller or silence on the line ends a connection.
    const stall = new AbortController();
    const ended = signal === undefined ? stall.signal : AbortSignal.any([signal, stall.signal]);
    const response = await requestFrom(repository, descriptor, offset, ended);
    if (response === undefined) return;
    const startedAt = offset;
    try {
      for await (const chunk of unseenChunks(response, offset, stall, repository)) {
        offset += chunk.length;
        yield chunk;
      }
      if (offset >= descriptor.size) return;
    } catch (error) {
      const cut = networkError(error, response.url, {
        isTimeout: stall.signal.aborted,
        isInterrupted: signal?.aborted === true,
      });
      if (!passes(cut) || (offset - startedAt < MIN_TRANSFER_GAIN_BYTES && cuts >= MAX_TRANSFER_CUTS))
        throw cut;
    }
    cuts = offset - startedAt >= MIN_TRANSFER_GAIN_BYTES ? 1 : cuts + 1;
    if (cuts > MAX_TRANSFER_CUTS) return;
    await repository.timing.sleep(backoffMs(cuts, repository.timing.random()), signal);
  }
}

/** Undefined when there is nothing at that offset. */
async function requestFrom(
  repository: Repository,
  descriptor: Descriptor,
  offset: number,
  signal: AbortSignal,
): Promise<RegistryResponse | undefined> {
  const response = await repository.send(
    {
      method: 'GET',
      url: repository.url(`blobs/${descriptor.digest}`),
      headers: offset === 0 ? {} : { range: `bytes=${offset}-` },
      answer: 'stream',
      signal,
    },
    offset === 0 ? [OK] : [OK, PARTIAL, RANGE_NOT_SATISFIABLE],
    `read ${descriptor.digest} of`,
  );
  if (response.status === RANGE_NOT_SATISFIABLE) return undefined;
  if (response.status === PARTIAL && rangeStart(response.headers) !== offset) {
    throw new LatchkeyError(
      'NET_REGISTRY',
      `${response.url.host} answered with another range than was asked for`,
    );
  }
  return response;
}

/** The chunks from `offset` on; a registry that ignores Range starts over, and what we have is dropped. */
async function* unseenChunks(
  response: RegistryResponse,
  offset: number,
  stall: AbortController,
  { stallTimeoutMs, timing }: Repository,
): AsyncGenerator<Uint8Array, void, undefined> {
  let toSkip = response.status === PARTIAL ? 0 : offset;
  const patience = createLinePatience(stallTimeoutMs, timing.clock, () => stall.abort());
  try {
    patience.wait();
    for await (const chunk of response.stream ?? []) {
      patience.moved(chunk.length);
      if (toSkip < chunk.length) yield chunk.subarray(toSkip);
      toSkip = Math.max(0, toSkip - chunk.length);
      patience.wait();
    }
  } finally {
    patience.stop();
  }
}

/** The first byte's position in `Content-Range: bytes 5-9/10`. */
function rangeStart(headers: Headers): number | undefined {
  const match = /^bytes (\d+)-/.exec(headers.get('content-range') ?? '');
  return match === null ? undefined : Number(match[1]);
}

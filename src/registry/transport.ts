/**
 * One HTTP exchange with a registry. Redirects, authorization and retries are layers over this type, each in its own
 * file; registry-store.ts stacks them.
 */
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_REGISTRY_ERROR_BYTES } from '#src/base/limits.ts';
import { networkError } from './network-error.ts';
import type { RepositoryScope } from './scope.ts';
import { sendStreamed } from './streamed-upload.ts';

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Called for each try, so that a body can be sent again. */
  readonly body?: (() => Uint8Array | AsyncIterable<Uint8Array>) | undefined;
  /** What the token must allow. */
  readonly scopes: readonly RepositoryScope[];
  /** `stream` leaves a good answer's body to the caller; a number reads it whole and refuses more bytes. */
  readonly answer?: 'stream' | number | undefined;
  /** False when the caller resumes by itself after a failure. */
  readonly retry?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RegistryResponse {
  readonly status: number;
  readonly headers: Headers;
  /** Where the answer came from, after redirects. */
  readonly url: URL;
  /** The body, unless it is streamed; of an error only its first bytes. */
  readonly bytes: Uint8Array;
  readonly stream?: AsyncIterable<Uint8Array> | undefined;
}

/** @throws LatchkeyError NET_*, INTERRUPTED, LIMIT_EXCEEDED; HTTP error statuses are returned, not thrown */
export type Transport = (request: RegistryRequest) => Promise<RegistryResponse>;

/** Answers to uploads and checks have no body worth reading. */
const DEFAULT_ANSWER_BYTES = MAX_REGISTRY_ERROR_BYTES;
const FIRST_ERROR_STATUS = 400;

export interface ExchangeOptions {
  /** From the request's last byte to the answer's last one, or the head of one that is streamed. */
  readonly answerTimeoutMs: number;
  readonly clock: Clock;
}

/** The lowest layer: one exchange, nothing followed. */
export function createExchange(options: ExchangeOptions): Transport {
  return async (request) => {
    // Blobs are named by the digest of their bytes as stored: no encoding on top.
    const headers = { 'accept-encoding': 'identity', 'user-agent': 'latchkey', ...request.headers };
    const body = request.body?.();
    return body === undefined || body instanceof Uint8Array
      ? fetchOnce(request, headers, body, options)
      : sendStreamed(request, headers, body, options);
  };
}

async function fetchOnce(
  request: RegistryRequest,
  requestHeaders: Readonly<Record<string, string>>,
  body: Uint8Array | undefined,
  { answerTimeoutMs }: ExchangeOptions,
): Promise<RegistryResponse> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), answerTimeoutMs);
  const signals = [silence.signal, ...(request.signal === undefined ? [] : [request.signal])];
  try {
    const response = await fetch(request.url, {
      method: request.method,
      headers: requestHeaders,
      redirect: 'manual',
      signal: AbortSignal.any(signals),
      ...(body === undefined ? {} : { body }),
    });
    const { status, headers } = response;
    const partial = { status, headers, url: request.url };
    if (status >= FIRST_ERROR_STATUS) {
      return { ...partial, bytes: await readHead(response, MAX_REGISTRY_ERROR_BYTES) };
    }
    if (request.answer === 'stream') {
      return { ...partial, bytes: new Uint8Array(), stream: response.body ?? emptyStream() };
    }
    return {
      ...partial,
      bytes: await readWhole(response, request.answer ?? DEFAULT_ANSWER_BYTES, request.url),
    };
  } catch (error) {
    throw networkError(error, request.url, {
      isTimeout: silence.signal.aborted,
      isInterrupted: request.signal?.aborted === true,
    });
  } finally {
    clearTimeout(timer);
  }
}

/** The first bytes of a body; what follows is dropped with the connection. */
async function readHead(response: Response, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of bodyOf(response)) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes >= maxBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}

async function readWhole(response: Response, maxBytes: number, url: URL): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of bodyOf(response)) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) {
      throw new LatchkeyError('LIMIT_EXCEEDED', `${url.host} answered with more than ${maxBytes} bytes`);
    }
  }
  return Buffer.concat(chunks);
}

function bodyOf(response: Response): AsyncIterable<Uint8Array> {
  return response.body ?? emptyStream();
}

async function* emptyStream(): AsyncGenerator<Uint8Array> {
  // Nothing to give.
}

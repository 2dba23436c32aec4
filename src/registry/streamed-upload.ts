/**
 * One exchange whose request body is a stream. Built-in fetch keeps every byte of a streamed body until the request ends
 * (measured on Node 24: 3 GB for a 3 GB layer), so this goes over node:http, which writes under backpressure.
 */
import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { pipeline } from 'node:stream/promises';
import { MAX_REGISTRY_ERROR_BYTES, MAX_UPLOAD_WRITE_BYTES } from '#src/base/limits.ts';
import { createLinePatience, type LinePatience } from './line-patience.ts';
import { networkError } from './network-error.ts';
import type { ExchangeOptions, RegistryRequest, RegistryResponse } from './transport.ts';

/**
 * Sends the body as it comes; an answer that arrives before its end, such as a refusal, stops it.
 * @throws LatchkeyError what the body raises, NET_*, INTERRUPTED
 */
export async function sendStreamed(
  request: RegistryRequest,
  headers: Readonly<Record<string, string>>,
  body: AsyncIterable<Uint8Array>,
  { answerTimeoutMs, clock }: ExchangeOptions,
): Promise<RegistryResponse> {
  const stop = new AbortController();
  const silence = new AbortController();
  const endSilence = (): void => silence.abort();
  const signals = [stop.signal, silence.signal, ...(request.signal === undefined ? [] : [request.signal])];
  const open = request.url.protocol === 'https:' ? httpsRequest : httpRequest;
  const outgoing = open(request.url, { method: request.method, headers, signal: AbortSignal.any(signals) });
  const answered = answerOf(outgoing);
  const patience = createLinePatience(answerTimeoutMs, clock, endSilence);
  const sent = pipeline(watched(body, patience), outgoing);
  // The one that fails second is only an echo of the first.
  sent.catch(() => undefined);
  answered.catch(() => undefined);
  let deadline: NodeJS.Timeout | undefined;
  const expectAnswer = (): void => {
    deadline ??= setTimeout(endSilence, answerTimeoutMs);
  };
  try {
    const answer = await Promise.race([answered, sent.then(expectAnswer).then(() => answered)]);
    // It may have come early.
    expectAnswer();
    return {
      status: answer.statusCode ?? 0,
      headers: headersOf(answer),
      url: request.url,
      bytes: await readHead(answer, MAX_REGISTRY_ERROR_BYTES),
    };
  } catch (error) {
    throw networkError(error, request.url, {
      isTimeout: silence.signal.aborted,
      isInterrupted: request.signal?.aborted === true,
    });
  } finally {
    clearTimeout(deadline);
    // Ends a body that nobody wants any more; after a whole exchange it does nothing.
    if (!outgoing.writableFinished) stop.abort();
  }
}

/** The body in pieces small enough to see the line move; only the line is watched, not where the body comes from. */
async function* watched(
  body: AsyncIterable<Uint8Array>,
  patience: LinePatience,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const chunk of body) {
      for (let start = 0; start < chunk.length; start += MAX_UPLOAD_WRITE_BYTES) {
        const piece = chunk.subarray(start, start + MAX_UPLOAD_WRITE_BYTES);
        patience.wait();
        yield piece;
        patience.moved(piece.length);
      }
    }
  } finally {
    patience.stop();
  }
}

function answerOf(outgoing: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
    outgoing.once('close', () => reject(closedError()));
  });
}

/** Answers to uploads have short bodies; a longer one is cut off. */
async function readHead(answer: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of answer as AsyncIterable<Uint8Array>) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes >= maxBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}

function headersOf(answer: IncomingMessage): Headers {
  const headers = new Headers();
  for (const [name, values] of Object.entries(answer.headersDistinct)) {
    for (const value of values ?? []) headers.append(name, value);
  }
  return headers;
}

function closedError(): Error {
  return Object.assign(new Error('closed without an answer'), { code: 'ECONNRESET' });
}

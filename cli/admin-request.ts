/**
 * One request to the admin API. Every POST has an Idempotency-Key, so one whose answer was lost is sent again with the
 * same key, and what it creates is created once.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type * as z from 'zod';
import { LatchkeyError, isErrorCode } from '#src/base/errors.ts';
import { MINUTE_MS, SECOND_MS } from '#src/base/units.ts';
import { problemSchema } from '#src/wire/admin/problem.ts';
import { networkError } from '#src/registry/network-error.ts';

/** Together, the waits that the key server asks of one request; a script that imports thousands goes at its pace. */
const MAX_PATIENCE_MS = 2 * MINUTE_MS;

const TOO_MANY_REQUESTS = 429;
/** A restart of the key server takes about this long. */
const PAUSES_BEFORE_REPEAT_MS = [SECOND_MS / 4, SECOND_MS];

export interface AdminClientOptions {
  /** `http://127.0.0.1:7440` */
  readonly serverUrl: string;
  /** Null for what takes none. */
  readonly token: string | null;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Sends a request, again when its answer is lost, and gives the parsed answer.
 * @param path below /v1
 * @throws LatchkeyError the server's own, NET_UNREACHABLE, NET_TLS, or INPUT_MALFORMED for a strange answer
 */
export async function requestAdminApi(
  options: AdminClientOptions,
  method: string,
  path: string,
  body: unknown,
): Promise<unknown> {
  const { serverUrl, signal } = options;
  const response = await sendUntilServed(options, path, {
    method,
    headers: {
      ...(options.token === null ? {} : { authorization: `Bearer ${options.token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(method === 'POST' ? { 'idempotency-key': randomUUID() } : {}),
    },
    body: body === undefined ? null : JSON.stringify(body),
    // The token goes to the server that was named and to no other.
    redirect: 'error',
    signal: signal ?? null,
  });
  const answer = parseAnswer(response.text, serverUrl);
  if (!response.ok) throw fromProblem(answer, response.status, serverUrl);
  return answer;
}

/**
 * An answer that has the form it should.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function checkedAnswer<Schema extends z.ZodType>(answer: unknown, schema: Schema): z.infer<Schema> {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  throw new LatchkeyError(
    'INPUT_MALFORMED',
    'the key server gave an answer this version does not understand',
    {
      hint: 'use the same version of Latchkey on both sides',
      cause: parsed.error,
    },
  );
}

interface Answered {
  readonly ok: boolean;
  /** Of an answer that asks to come back: when. */
  readonly retryAfterMs: number | undefined;
  readonly status: number;
  readonly text: string;
}

/** An answer that asks to come back is waited for, when it says for how long. */
async function sendUntilServed(
  options: AdminClientOptions,
  path: string,
  init: RequestInit,
): Promise<Answered> {
  for (let patienceMs = MAX_PATIENCE_MS; ;) {
    const answered = await sendUntilAnswered(options, path, init);
    const { status, retryAfterMs = Infinity } = answered;
    patienceMs -= retryAfterMs;
    if (status !== TOO_MANY_REQUESTS || patienceMs < 0) return answered;
    await pause(retryAfterMs, options.signal);
  }
}

async function sendUntilAnswered(
  { serverUrl, signal }: AdminClientOptions,
  path: string,
  init: RequestInit,
): Promise<Answered> {
  const url = new URL(`/v1/${path}`, serverUrl);
  for (const pauseMs of [...PAUSES_BEFORE_REPEAT_MS, null]) {
    try {
      const response = await fetch(url, init);
      const { ok, status, headers } = response;
      return { ok, status, retryAfterMs: retryAfterMs(headers), text: await response.text() };
    } catch (error) {
      if (signal?.aborted === true) throw error;
      const { code, message } = networkError(error, url);
      if (code === 'NET_TLS') {
        throw new LatchkeyError(code, message, {
          hint: 'NODE_EXTRA_CA_CERTS=FILE adds the authority of its certificate; --server http:// is for plain HTTP',
          cause: error,
        });
      }
      if (pauseMs === null) throw unreachable(serverUrl, error);
      await pause(pauseMs, signal);
    }
  }
  throw unreachable(serverUrl, undefined);
}

/** RFC 9110, 10.2.3, in seconds, as our key server writes it; a moment at least, so that nobody asks in a circle. */
function retryAfterMs(headers: Headers): number | undefined {
  const seconds = /^\d{1,6}$/.exec(headers.get('retry-after') ?? '')?.[0];
  return seconds === undefined ? undefined : Math.max(1, Number(seconds)) * SECOND_MS;
}

async function pause(durationMs: number, signal: AbortSignal | undefined): Promise<void> {
  await delay(durationMs, undefined, signal === undefined ? {} : { signal });
}

export function unreachable(serverUrl: string, cause: unknown): LatchkeyError {
  return new LatchkeyError('NET_UNREACHABLE', `the key server at ${serverUrl} does not answer`, {
    hint: 'is it running? name another one with --server URL',
    cause,
  });
}

export function parseAnswer(text: string, serverUrl: string): unknown {
  if (text === '') return null;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', `${serverUrl} is not a Latchkey key server`, {
      hint: 'check --server',
      cause: error,
    });
  }
}

export function fromProblem(answer: unknown, status: number, serverUrl: string): LatchkeyError {
  const problem = problemSchema.safeParse(answer);
  if (problem.success && isErrorCode(problem.data.code)) {
    return new LatchkeyError(problem.data.code, problem.data.detail, { hint: problem.data.hint });
  }
  return new LatchkeyError('INPUT_MALFORMED', `${serverUrl} answered with status ${status}`, {
    hint: 'check --server',
  });
}

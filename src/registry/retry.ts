/** Requests repeated after failures that pass: lost connections, overload, restarts. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '#src/base/clock.ts';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import {
  MAX_REGISTRY_ATTEMPTS,
  MAX_RETRY_AFTER_MS,
  REGISTRY_RETRY_BASE_MS,
  REGISTRY_RETRY_MAX_MS,
} from '#src/base/limits.ts';
import type { RegistryResponse, Transport } from './transport.ts';

/** Not implemented, and a version of HTTP that is not spoken: those stay as they are. */
const LASTING_SERVER_ERRORS = [501, 505];
/** Statuses that say "not now"; networks in front of registries have numbers of their own up to 599. */
export const PASSING_STATUSES: ReadonlySet<number> = new Set([
  ...[408, 429],
  ...Array.from({ length: 100 }, (_, index) => 500 + index).filter(
    (status) => !LASTING_SERVER_ERRORS.includes(status),
  ),
]);

/** Time and chance, passed in so that tests wait for nothing. */
export interface RetryTiming {
  readonly clock: Clock;
  /** A number from 0 up to but not including 1. */
  random(): number;
  sleep(durationMs: number, signal: AbortSignal | undefined): Promise<void>;
}

export const systemRetryTiming: RetryTiming = {
  clock: systemClock,
  random: () => Math.random(),
  sleep: async (durationMs, signal) => {
    try {
      await delay(durationMs, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      throw toLatchkeyError(error);
    }
  },
};

export interface RetryOptions {
  /** False when a caller repeats lost requests too: the numbers of tries would multiply. */
  readonly repeatsLost?: boolean | undefined;
}

/** A transport that repeats a request up to {@link MAX_REGISTRY_ATTEMPTS} times, with growing random delays. */
export function withRetries(
  transport: Transport,
  timing: RetryTiming,
  { repeatsLost = true }: RetryOptions = {},
): Transport {
  return async (request) => {
    for (let attempt = 1; ; attempt += 1) {
      const isLast = request.retry === false || attempt === MAX_REGISTRY_ATTEMPTS;
      let askedMs = 0;
      try {
        const response = await transport(request);
        if (isLast || !PASSING_STATUSES.has(response.status)) return response;
        askedMs = retryAfterMs(response, timing.clock.nowMs());
        if (askedMs > MAX_RETRY_AFTER_MS) return response;
      } catch (error) {
        if (isLast || !repeatsLost || !passes(error)) throw error;
      }
      await timing.sleep(Math.max(askedMs, backoffMs(attempt, timing.random())), request.signal);
    }
  };
}

/** The delay after a failed try: doubling, and half of it random so that clients spread out. */
export function backoffMs(attempt: number, random: number): number {
  const fullMs = Math.min(REGISTRY_RETRY_BASE_MS * 2 ** (attempt - 1), REGISTRY_RETRY_MAX_MS);
  return (fullMs * (1 + random)) / 2;
}

/** Retry-After in milliseconds from now (RFC 9110 section 10.2.3); 0 when there is none or it is unreadable. */
export function retryAfterMs(response: Pick<RegistryResponse, 'headers'>, nowMs: number): number {
  const value = response.headers.get('retry-after')?.trim();
  if (value === undefined) return 0;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const atMs = Date.parse(value);
  return Number.isNaN(atMs) ? 0 : Math.max(0, atMs - nowMs);
}

/** True for failures of the network that may be over at the next try. */
export function passes(error: unknown): error is LatchkeyError {
  return error instanceof LatchkeyError && (error.code === 'NET_UNREACHABLE' || error.code === 'NET_TIMEOUT');
}

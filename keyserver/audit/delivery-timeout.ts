/** How long a receiver may take. */
import { LatchkeyError } from '#src/base/errors.ts';

/**
 * Runs one delivery, which both the end of the process and the time cut short.
 * @throws LatchkeyError NET_TIMEOUT; what the delivery throws
 */
export async function deliverInTime<Result>(
  timeoutMs: number,
  stopping: AbortSignal,
  delivery: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    return await delivery(AbortSignal.any([stopping, timeout]));
  } catch (error) {
    if (!timeout.aborted) throw error;
    throw new LatchkeyError('NET_TIMEOUT', `no answer within ${timeoutMs / 1000} s`, { cause: error });
  }
}

/**
 * The request that the work under way is for. An event of the audit log and the lines of the log that tell of one request are
 * found by its id; handed from call to call it would be a parameter of nearly everything.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';

const current = new AsyncLocalStorage<string | null>();

export function newRequestId(): string {
  return randomUUID();
}

/** Undefined for what nobody has asked for. */
export function currentRequestId(): string | undefined {
  return current.getStore() ?? undefined;
}

/** Runs work for a request; null = for none. */
export function forRequest<Result>(requestId: string | null, work: () => Result): Result {
  return current.run(requestId, work);
}

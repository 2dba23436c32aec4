/** Why a delivery to somebody else failed, in one line for the operator. */
import { inspect } from 'node:util';
import { LatchkeyError } from '#src/base/errors.ts';

const MAX_MESSAGE = 300;

/** Gives what the system or the other side has said; codes of ours only where the failure is ours. */
export function deliveryMessage(error: unknown): string {
  const text =
    error instanceof LatchkeyError ? error.line : error instanceof Error ? errorText(error) : inspect(error);
  return text.replaceAll(/\s+/g, ' ').slice(0, MAX_MESSAGE);
}

/** A connection that fails on all addresses of a name has one error for each, and no message of its own. */
function errorText(error: Error): string {
  if (!(error instanceof AggregateError)) return error.message;
  const [first] = error.errors as unknown[];
  return first instanceof Error ? first.message : error.message;
}

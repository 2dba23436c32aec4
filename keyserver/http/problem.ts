/** Errors as problem details (RFC 9457). */
import { ERROR_TABLE, LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { Problem } from '#src/wire/admin/problem.ts';

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

/** The problem document of an error; a defect shows no more than that it happened. */
export function toProblem(error: LatchkeyError): Problem {
  const { http } = ERROR_TABLE[error.code];
  return {
    type: 'about:blank',
    title: error.code,
    status: http,
    detail: error.code === 'BUG_UNEXPECTED' ? 'internal error' : error.message,
    code: error.code,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  };
}

/** The status of what the framework refuses by itself, such as 415; undefined where our code says it. */
export function frameworkStatus(error: unknown): number | undefined {
  if (!(error instanceof Error) || error instanceof LatchkeyError) return undefined;
  const { statusCode } = error as { statusCode?: unknown };
  return typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500 ? statusCode : undefined;
}

/** What the framework throws by itself, in our codes. */
export function fromFrameworkError(error: unknown): LatchkeyError {
  if (!(error instanceof Error) || error instanceof LatchkeyError) return toLatchkeyError(error);
  const { code } = error as { code?: unknown };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new LatchkeyError('LIMIT_EXCEEDED', 'the request body is too large', { cause: error });
  }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return new LatchkeyError('USAGE_INVALID', 'the request body is not said to be JSON', {
      hint: 'send JSON, and say so with the header content-type: application/json',
      cause: error,
    });
  }
  if (code === 'FST_ERR_MAX_PARAM_LENGTH') {
    return new LatchkeyError('LIMIT_EXCEEDED', 'a name in the path is too long', {
      hint: 'use the id instead',
      cause: error,
    });
  }
  if (frameworkStatus(error) !== undefined) {
    return new LatchkeyError('USAGE_INVALID', error.message, { cause: error });
  }
  return toLatchkeyError(error);
}

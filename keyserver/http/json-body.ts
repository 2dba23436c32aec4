/** Bodies of admin requests: JSON alone, read as strictly as all other JSON from outside. */
import type { FastifyInstance } from 'fastify';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';

/** Refuses every other kind of body, and JSON with equal keys, deep nesting or too many values. */
export function acceptJsonAlone(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, parseJson(body, 'the request body'));
    } catch (error) {
      done(asUsage(error));
    }
  });
}

/** A request that is not understood is the caller's, as one that does not fit its schema. */
function asUsage(error: unknown): Error {
  if (!(error instanceof LatchkeyError)) return error as Error;
  if (error.code !== 'INPUT_MALFORMED') return error;
  return new LatchkeyError('USAGE_INVALID', error.message, { cause: error });
}

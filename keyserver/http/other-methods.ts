/** A path that is there answers a method that it does not have with 405 and those that it has (RFC 9110, section 15.5.6). */
import type { FastifyInstance } from 'fastify';
import { LatchkeyError } from '#src/base/errors.ts';
import { PROBLEM_MEDIA_TYPE, toProblem } from './problem.ts';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;
const METHOD_NOT_ALLOWED = 405;

/** Notes the methods of every route that is registered from now on; the function that it gives registers the others. */
export function collectMethods(app: FastifyInstance): () => void {
  const known = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    const methods = known.get(url) ?? new Set();
    for (const each of [method].flat()) methods.add(each);
    known.set(url, methods);
  });
  return () => {
    for (const [url, methods] of [...known]) {
      const allow = [...methods].sort().join(', ');
      for (const method of METHODS.filter((each) => !methods.has(each))) refuse(app, url, method, allow);
    }
  };
}

function refuse(app: FastifyInstance, url: string, method: (typeof METHODS)[number], allow: string): void {
  app.route({
    url,
    method,
    schema: { hide: true },
    handler: (request, reply) => {
      const error = new LatchkeyError(
        'USAGE_INVALID',
        `${request.url.split('?')[0] ?? ''} has no method ${request.method}`,
        { hint: `it has ${allow}; see /v1/openapi.json` },
      );
      return reply
        .code(METHOD_NOT_ALLOWED)
        .header('allow', allow)
        .type(PROBLEM_MEDIA_TYPE)
        .serializer(JSON.stringify)
        .send({ ...toProblem(error), status: METHOD_NOT_ALLOWED });
    },
  });
}

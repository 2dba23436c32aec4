/** The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header) of requests that create something. */
import type { FastifyRequest } from 'fastify';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { answerOnce } from '../domain/idempotent-answer.ts';
import type { KeyServer } from '../domain/key-server.ts';

const HEADER = 'idempotency-key';

/** For the schema of a route that runs its work with `runOnce`. */
export const idempotencyKeyHeaders = z.object({
  [HEADER]: z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, 'up to 255 printable ASCII characters')
    .optional()
    .describe('A random text, such as a UUID: a repeat with it within 24 hours gets the same answer'),
});

/** Runs an operation, at most once when the request has an Idempotency-Key. */
export function runOnce<Answer>(
  server: KeyServer,
  request: Pick<FastifyRequest, 'actor' | 'headers' | 'method' | 'routeOptions' | 'params' | 'body'>,
  operation: (server: KeyServer) => Promise<Answer>,
): Promise<Answer> {
  const idempotencyKey = request.headers[HEADER];
  if (idempotencyKey === undefined) return operation(server);
  if (typeof idempotencyKey !== 'string') {
    throw new LatchkeyError('USAGE_INVALID', 'there is more than one Idempotency-Key', { hint: 'send one' });
  }
  // After the checks, so defaults and the order of fields make no difference.
  const content = JSON.stringify([request.method, request.routeOptions.url, request.params, request.body]);
  return answerOnce(server, { actor: request.actor, idempotencyKey, content }, operation);
}

/** Versions of resources (RFC 9110, sections 8.8.3 and 13.1.1): the revision as ETag, and If-Match on changes. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { type Guarded, onlyAtRevision } from '../domain/precondition.ts';

const HEADER = 'if-match';
/** Entity tags in one header; a caller has seen one or two. */
const MAX_TAGS = 16;

/** For the schema of a route that makes its change with `ifMatched`. */
export const ifMatchHeaders = z.object({
  [HEADER]: z
    .string()
    .max(512)
    .optional()
    .describe('ETags, one of which it must still have; else nothing is changed and the answer is 412'),
});

/** Answers that are one resource get its revision as their ETag. */
export function sendEntityTags(app: FastifyInstance): void {
  app.addHook('preSerialization', (_request, reply, payload: unknown, done) => {
    const revision = revisionOf(payload);
    if (revision !== undefined) reply.header('etag', `"${revision}"`);
    done(null, payload);
  });
}

/** Two of the same revision may differ in what time has done to them, such as the state of a license; changes do not care. */
function revisionOf(payload: unknown): number | undefined {
  if (typeof payload !== 'object' || payload === null) return undefined;
  const { id, revision } = payload as { id?: unknown; revision?: unknown };
  return typeof id === 'string' && typeof revision === 'number' ? revision : undefined;
}

/**
 * Gives the key server for a change that may be conditional.
 * @throws LatchkeyError USAGE_INVALID, STATE_REVISION_STALE
 */
export function ifMatched(
  server: KeyServer,
  request: Pick<FastifyRequest, 'headers'>,
  guarded: Guarded,
): Promise<KeyServer> {
  const header = request.headers[HEADER];
  if (header === undefined) return Promise.resolve(server);
  return onlyAtRevision(server, guarded, parseIfMatch(header));
}

/** A change of this (encapsulated) instance that does not take If-Match refuses it, rather than be made whatever it says. */
export function refuseOtherConditions(app: FastifyInstance): void {
  app.addHook('onRequest', (request) => {
    const isConditional = request.headers[HEADER] !== undefined;
    if (!isConditional || isRead(request) || takesIfMatch(request)) return Promise.resolve();
    return Promise.reject(
      new LatchkeyError('USAGE_INVALID', 'this request takes no If-Match', {
        hint: 'leave it out; /v1/openapi.json says which changes take it',
      }),
    );
  });
}

/** What changes nothing can overwrite nothing. */
function isRead({ method }: FastifyRequest): boolean {
  return method === 'GET' || method === 'HEAD';
}

/** By the schema, so that the API document says what is done. */
function takesIfMatch({ routeOptions }: FastifyRequest): boolean {
  const headers = routeOptions.schema?.headers;
  return headers instanceof z.ZodObject && HEADER in headers.shape;
}

/**
 * Reads an If-Match header as revisions; null = any. A weak tag, or one that is not ours, matches nothing.
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseIfMatch(header: string): number[] | null {
  if (header.trim() === '*') return null;
  const tags = header.split(',').map((tag) => tag.trim());
  if (tags.length > MAX_TAGS || !tags.every((tag) => /^(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"$/.test(tag))) {
    throw new LatchkeyError('USAGE_INVALID', 'If-Match is not a list of entity tags', {
      hint: 'send the ETag of the answer, with its quotes, or *',
    });
  }
  return tags.flatMap((tag) => {
    const revision = /^"(0|[1-9]\d{0,15})"$/.exec(tag)?.[1];
    return revision === undefined ? [] : [Number(revision)];
  });
}

/** Bearer API tokens (RFC 6750): every route says which scopes may use it. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { LatchkeyError } from '#src/base/errors.ts';
import type { TokenScope } from '#src/wire/admin-api.ts';
import type { Actor } from '../audit/append-event.ts';
import { authenticate } from '../domain/api-tokens.ts';
import type { KeyServer } from '../domain/key-server.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; set before every handler. */
    actor: Actor;
  }
  interface FastifyContextConfig {
    /** Open to all scopes that are named; without it a route is for admins. */
    scopes?: readonly TokenScope[];
  }
}

/** The scopes of routes that CI uses. */
export const ALSO_FOR_RELEASE = { scopes: ['admin', 'release'] } as const;

/** Checks the token of every request of this (encapsulated) instance. */
export function requireToken(app: FastifyInstance, server: KeyServer): void {
  app.decorateRequest('actor', 'system');
  app.addHook('onRequest', async (request) => {
    const token = bearerToken(request);
    const holder = token === undefined ? null : await authenticate(server, token);
    if (holder === null) {
      throw new LatchkeyError('AUTH_REQUIRED', 'the request has no valid API token', {
        hint: 'send the token of DATA/admin.token, or one made with `latchkey token create`',
      });
    }
    const scopes: readonly TokenScope[] = request.routeOptions.config.scopes ?? ['admin'];
    if (!scopes.includes(holder.scope)) {
      throw new LatchkeyError('AUTH_FORBIDDEN', `a token of scope ${holder.scope} may not do this`, {
        hint: 'use an admin token',
      });
    }
    request.actor = `token:${holder.tokenId}`;
  });
}

function bearerToken(request: FastifyRequest): string | undefined {
  return /^Bearer ([\w~+/.=-]{1,512})$/i.exec(request.headers.authorization ?? '')?.[1];
}

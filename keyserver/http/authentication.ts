/** Bearer API tokens (RFC 6750): every route says which scopes may use it. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { LatchkeyError } from '#src/base/errors.ts';
import type { TokenScope } from '#src/wire/admin/api-token.ts';
import { type Actor, appendAuditEvent } from '../audit/append-event.ts';
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
    request.actor = `token:${holder.tokenId}`;
    const scopes: readonly TokenScope[] = request.routeOptions.config.scopes ?? ['admin'];
    if (!scopes.includes(holder.scope)) {
      await recordForbidden(server, request);
      throw new LatchkeyError('AUTH_FORBIDDEN', `a token of scope ${holder.scope} may not do this`, {
        hint: 'use an admin token',
      });
    }
  });
}

/** A token that is used for what it is not for may be in the wrong hands. */
async function recordForbidden(server: KeyServer, request: FastifyRequest): Promise<void> {
  await server.store.write((writer) =>
    appendAuditEvent(writer, server.organizationId, server.clock.nowMs(), {
      actor: request.actor,
      action: 'token.use',
      // The route, not the path: that is the sender's own text.
      target: `${request.method} ${request.routeOptions.url ?? ''}`.trimEnd(),
      outcome: 'denied',
      code: 'AUTH_FORBIDDEN',
    }),
  );
}

function bearerToken(request: FastifyRequest): string | undefined {
  return /^Bearer ([\w~+/.=-]{1,512})$/i.exec(request.headers.authorization ?? '')?.[1];
}

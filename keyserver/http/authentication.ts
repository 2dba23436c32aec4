/** Bearer API tokens (RFC 6750): every route names the permission it takes. */
import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify';
import { LatchkeyError } from '#src/base/errors.ts';
import { type Permission, PERMISSION_SETS, type PermissionSet } from '#src/wire/admin/permission.ts';
import { type Actor, appendAuditEvent } from '../audit/append-event.ts';
import { authenticate } from '../domain/api-tokens.ts';
import type { KeyServer } from '../domain/key-server.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; set before every handler. */
    actor: Actor;
  }
  interface FastifyContextConfig {
    /** What the caller must hold. A route that names none is refused when it is registered. */
    permission?: Permission;
  }
}

/**
 * The one authorization point of the admin API: checks the token of every request of this (encapsulated) instance, and
 * that its permission set holds what the route asks for.
 */
export function requireToken(app: FastifyInstance, server: KeyServer): void {
  app.decorateRequest('actor', 'system');
  app.addHook('onRoute', refuseUnguarded);
  app.addHook('onRequest', async (request) => {
    const token = bearerToken(request);
    const holder = token === undefined ? null : await authenticate(server, token);
    if (holder === null) {
      throw new LatchkeyError('AUTH_REQUIRED', 'the request has no valid API token', {
        hint: 'send the token of DATA/admin.token, or one made with `latchkey token create`',
      });
    }
    request.actor = `token:${holder.tokenId}`;
    const { permission } = request.routeOptions.config;
    if (!isPermitted(holder.permissionSet, permission)) {
      await recordForbidden(server, request);
      throw new LatchkeyError(
        'AUTH_FORBIDDEN',
        `a token with the permission set ${holder.permissionSet} may not do this`,
        { hint: `use a token whose permission set holds ${permission ?? 'it'}` },
      );
    }
  });
}

/** A path that nothing serves names no permission, and nobody may use it but to learn so. */
function isPermitted(permissionSet: PermissionSet, permission: Permission | undefined): boolean {
  return permission !== undefined && PERMISSION_SETS[permissionSet].includes(permission);
}

/** @throws TypeError for a route that does not say who may use it: a defect, found at start */
function refuseUnguarded(route: RouteOptions): void {
  if (route.config?.permission !== undefined) return;
  throw new TypeError(`the route ${String(route.method)} ${route.url} names no permission`);
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

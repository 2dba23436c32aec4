/** Bearer API tokens (RFC 6750): every route names the permission it takes. */
import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify';
import { LatchkeyError } from '#src/base/errors.ts';
import { type Permission, PERMISSION_SETS, type PermissionSet } from '#src/wire/admin/permission.ts';
import { type Actor, appendAuditEvent } from '../audit/append-event.ts';
import { authenticate } from '../domain/api-tokens.ts';
import { type Access, type OwnedThing, isWholeOrganization, requireWithin } from '../domain/access.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { FAILED_AUTHENTICATIONS_RATE } from '../limits.ts';
import { type Rate, RateLimit, addressGroup } from '../rate-limit.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; set before every handler. */
    actor: Actor;
    /** The part of the organization that the caller sees. */
    access: Access;
  }
  interface FastifyContextConfig {
    /** What the caller must hold. A route that names none is refused when it is registered. */
    permission?: Permission;
    /** How the route keeps a caller within its part of the organization; without it, such callers are refused. */
    within?: RouteScope;
  }
}

/**
 * `filtered`: the route's query is given the access. `everyone`: nothing in the answer belongs to a product or customer.
 * Else the one thing that the request names, in its path or its body.
 */
export type RouteScope =
  | 'filtered'
  | 'everyone'
  | { readonly thing: OwnedThing; readonly parameter: string }
  | { readonly thing: OwnedThing; readonly field: string };

/**
 * The one authorization point of the admin API: checks the token of every request of this (encapsulated) instance, and
 * that its permission set holds what the route asks for.
 * @param rate of the requests with one token
 */
export function requireToken(app: FastifyInstance, server: KeyServer, rate: Rate): void {
  const failures = new RateLimit(FAILED_AUTHENTICATIONS_RATE, server.clock);
  const requests = new RateLimit(rate, server.clock);
  app.decorateRequest('actor', 'system');
  app.decorateRequest('access');
  app.addHook('onRoute', refuseUnguarded);
  app.addHook('onRequest', async (request) => {
    const token = bearerToken(request);
    const holder = token === undefined ? null : await authenticate(server, token);
    if (holder === null) {
      server.refusals.count('api-token', request.ip);
      failures.spend(addressGroup(request.ip), 'requests without a valid API token from this address');
      throw new LatchkeyError('AUTH_REQUIRED', 'the request has no valid API token', {
        hint: 'send the token of DATA/admin.token, or one made with `latchkey token create`',
      });
    }
    request.actor = `token:${holder.tokenId}`;
    request.access = holder.access;
    requests.spend(holder.tokenId, 'requests with this API token');
    const { permission, within } = request.routeOptions.config;
    if (within === undefined && !isWholeOrganization(holder.access)) {
      await recordForbidden(server, request);
      throw new LatchkeyError('AUTH_FORBIDDEN', 'a token for one product or customer may not do this', {
        hint: 'use a token for the whole organization',
      });
    }
    if (!isPermitted(holder.permissionSet, permission)) {
      await recordForbidden(server, request);
      throw new LatchkeyError(
        'AUTH_FORBIDDEN',
        `a token with the permission set ${holder.permissionSet} may not do this`,
        { hint: `use a token whose permission set holds ${permission ?? 'it'}` },
      );
    }
  });
  app.addHook('preHandler', async (request) => {
    const { within } = request.routeOptions.config;
    if (typeof within !== 'object') return;
    const [part, key] = 'field' in within ? [request.body, within.field] : [request.params, within.parameter];
    await requireWithin(server, request.access, within.thing, (part as Record<string, string>)[key] ?? '');
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

/** The audit log and API tokens. */
import * as z from 'zod';
import {
  apiTokenSchema,
  createdTokenSchema,
  tokenInputSchema,
  tokenQuerySchema,
} from '#src/wire/admin/api-token.ts';
import {
  auditExportsSchema,
  auditPageSchema,
  auditQuerySchema,
  concealInputSchema,
  concealedSchema,
} from '#src/wire/admin/audit.ts';
import { pageSchema } from '#src/wire/admin/page.ts';
import { concealText } from '../../audit/concealed-text.ts';
import { listAuditEvents } from '../../audit/list-events.ts';
import { createToken, listTokens, revokeToken } from '../../domain/api-tokens.ts';
import { shredFieldKey } from '../../domain/audit-field-key.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';
import { idempotencyKeyHeaders, runOnce } from '../idempotency-key.ts';

export function administrationRoutes(app: AdminApp, server: KeyServer): void {
  app.get(
    '/v1/audit-events',
    {
      config: { permission: 'audit.read' },
      schema: {
        summary: 'List audit events, in the order of their sequence numbers',
        querystring: auditQuerySchema,
        response: { 200: auditPageSchema },
      },
    },
    (request) => listAuditEvents(server.store.read, request.query),
  );
  app.get(
    '/v1/audit-exports',
    {
      config: { permission: 'audit.read' },
      schema: {
        summary: 'Where the audit log is copied to, and how far each copy is',
        response: { 200: auditExportsSchema },
      },
    },
    async () => ({ items: await server.auditExports.list() }),
  );
  app.post(
    '/v1/audit-events::conceal',
    {
      config: { permission: 'audit.read' },
      schema: {
        summary: 'A text as the audit log conceals it, to find the events that have it',
        body: concealInputSchema,
        response: { 200: concealedSchema },
      },
    },
    async ({ body }) => ({
      concealed: await concealText(server.store.read, server.organizationId, server.keys, body.text),
    }),
  );
  app.post(
    '/v1/audit-events::shred',
    {
      config: { permission: 'audit.shred' },
      schema: {
        summary: 'Destroy the key of what the audit log conceals: nobody finds it by its text again',
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await shredFieldKey(server, request.actor);
      return reply.code(204).send(null);
    },
  );
  app.post(
    '/v1/api-tokens',
    {
      config: { permission: 'token.write' },
      schema: {
        summary: 'Create an API token; the answer holds it, once',
        headers: idempotencyKeyHeaders,
        body: tokenInputSchema,
        response: { 201: createdTokenSchema },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(await runOnce(server, request, (once) => createToken(once, request.actor, request.body))),
  );
  app.get(
    '/v1/api-tokens',
    {
      config: { permission: 'token.read' },
      schema: {
        summary: 'List API tokens',
        querystring: tokenQuerySchema,
        response: { 200: pageSchema(apiTokenSchema) },
      },
    },
    (request) => listTokens(server, request.query),
  );
  app.delete(
    '/v1/api-tokens/:id',
    {
      config: { permission: 'token.write' },
      schema: {
        summary: 'Revoke an API token',
        params: z.object({ id: z.string() }),
        headers: ifMatchHeaders,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const guarded = await ifMatched(server, request, { thing: 'api_token', name: id });
      await revokeToken(guarded, request.actor, id);
      return reply.code(204).send(null);
    },
  );
}

/** Webhook endpoints. */
import * as z from 'zod';
import { pageSchema } from '#src/wire/admin/page.ts';
import {
  createdWebhookSchema,
  webhookAttemptsSchema,
  webhookEndpointSchema,
  webhookInputSchema,
  webhookQuerySchema,
} from '#src/wire/admin/webhook.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import {
  createWebhook,
  deleteWebhook,
  listAttempts,
  listWebhooks,
  setWebhookState,
} from '../../domain/webhook-endpoints.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';
import { idempotencyKeyHeaders, runOnce } from '../idempotency-key.ts';

const byId = z.object({ id: z.string() });

export function webhookRoutes(app: AdminApp, server: KeyServer): void {
  app.post(
    '/v1/webhook-endpoints',
    {
      config: { permission: 'webhook.write' },
      schema: {
        summary: 'Create a webhook endpoint; the answer holds its secret, once',
        headers: idempotencyKeyHeaders,
        body: webhookInputSchema,
        response: { 201: createdWebhookSchema },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(await runOnce(server, request, (once) => createWebhook(once, request.actor, request.body))),
  );
  app.get(
    '/v1/webhook-endpoints',
    {
      config: { permission: 'webhook.read' },
      schema: {
        summary: 'List webhook endpoints',
        querystring: webhookQuerySchema,
        response: { 200: pageSchema(webhookEndpointSchema) },
      },
    },
    (request) => listWebhooks(server, request.query),
  );
  app.get(
    '/v1/webhook-endpoints/:id/attempts',
    {
      config: { permission: 'webhook.read' },
      schema: {
        summary: 'The last tries to reach a webhook endpoint, newest first',
        params: byId,
        response: { 200: webhookAttemptsSchema },
      },
    },
    async (request) => ({ items: await listAttempts(server, request.params.id) }),
  );
  for (const [verb, state] of [
    ['enable', 'ENABLED'],
    ['disable', 'DISABLED'],
  ] as const) {
    app.post(
      `/v1/webhook-endpoints/:id([^:]+)::${verb}`,
      {
        config: { permission: 'webhook.write' },
        schema: {
          summary:
            verb === 'enable'
              ? 'Enable a webhook endpoint; it gets what it has missed'
              : 'Disable a webhook endpoint',
          params: byId,
          headers: ifMatchHeaders,
          response: { 200: webhookEndpointSchema },
        },
      },
      async (request) => {
        const { id } = request.params;
        const guarded = await ifMatched(server, request, { thing: 'webhook_endpoint', name: id });
        return setWebhookState(guarded, request.actor, id, state);
      },
    );
  }
  app.delete(
    '/v1/webhook-endpoints/:id',
    {
      config: { permission: 'webhook.write' },
      schema: {
        summary: 'Delete a webhook endpoint',
        params: byId,
        headers: ifMatchHeaders,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const guarded = await ifMatched(server, request, { thing: 'webhook_endpoint', name: id });
      await deleteWebhook(guarded, request.actor, id);
      return reply.code(204).send(null);
    },
  );
}

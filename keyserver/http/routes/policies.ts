/** Policies: terms that licenses share. */
import * as z from 'zod';
import { pageQuerySchema, pageSchema } from '#src/wire/admin/page.ts';
import { policyInputSchema, policySchema, policyUpdateSchema } from '#src/wire/admin/policy.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { createPolicy, getPolicy, listPolicies, updatePolicy } from '../../domain/policies.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';
import { idempotencyKeyHeaders, runOnce } from '../idempotency-key.ts';

const policyParams = z.object({ code: z.string() });

export function policyRoutes(app: AdminApp, server: KeyServer): void {
  app.post(
    '/v1/policies',
    {
      config: { permission: 'policy.write' },
      schema: {
        summary: 'Create a policy',
        headers: idempotencyKeyHeaders,
        body: policyInputSchema,
        response: { 201: policySchema },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(await runOnce(server, request, (once) => createPolicy(once, request.actor, request.body))),
  );
  app.get(
    '/v1/policies',
    {
      config: { permission: 'policy.read' },
      schema: {
        summary: 'List policies',
        querystring: pageQuerySchema,
        response: { 200: pageSchema(policySchema) },
      },
    },
    (request) => listPolicies(server, request.query),
  );
  app.get(
    '/v1/policies/:code',
    {
      config: { permission: 'policy.read' },
      schema: { summary: 'Show a policy', params: policyParams, response: { 200: policySchema } },
    },
    (request) => getPolicy(server, request.params.code),
  );
  app.patch(
    '/v1/policies/:code',
    {
      config: { permission: 'policy.write' },
      schema: {
        summary: 'Change a policy and the licenses under it; once answered, it is in force',
        params: policyParams,
        headers: ifMatchHeaders,
        body: policyUpdateSchema,
        response: { 200: policySchema },
      },
    },
    async (request) => {
      const { code } = request.params;
      return updatePolicy(
        await ifMatched(server, request, { thing: 'policy', name: code }),
        request.actor,
        code,
        request.body,
      );
    },
  );
}

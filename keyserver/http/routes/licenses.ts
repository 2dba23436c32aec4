/** Licenses and the leases cut from them. */
import * as z from 'zod';
import {
  createdJoinTokenSchema,
  joinTokenInputSchema,
  joinTokenQuerySchema,
  joinTokenSchema,
} from '#src/wire/admin/join-token.ts';
import { leaseQuerySchema, leaseSchema } from '#src/wire/admin/lease.ts';
import {
  createdLicenseSchema,
  licenseChangeInputSchema,
  licenseInputSchema,
  licenseQuerySchema,
  licenseRenewalSchema,
  licenseSchema,
  licenseUpdateSchema,
} from '#src/wire/admin/license.ts';
import { licenseNodeSchema } from '#src/wire/admin/node.ts';
import { pageQuerySchema, pageSchema } from '#src/wire/admin/page.ts';
import { requireFilters } from '../../domain/access.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { createJoinToken, listJoinTokens, revokeJoinToken } from '../../domain/join-tokens.ts';
import { getLease, listLeases } from '../../domain/leases.ts';
import { renewLicense, updateLicense } from '../../domain/license-update.ts';
import { changeLicense, createLicense, getLicense, listLicenses } from '../../domain/licenses.ts';
import { listLicenseNodes } from '../../domain/plaintext-reports.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';
import { idempotencyKeyHeaders, runOnce } from '../idempotency-key.ts';

const licenseParams = z.object({ id: z.string() });

export function licenseRoutes(app: AdminApp, server: KeyServer): void {
  app.post(
    '/v1/licenses',
    {
      config: { permission: 'license.write' },
      schema: {
        summary: 'Create a license; the answer holds its key, once',
        headers: idempotencyKeyHeaders,
        body: licenseInputSchema,
        response: { 201: createdLicenseSchema },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(await runOnce(server, request, (once) => createLicense(once, request.actor, request.body))),
  );
  app.get(
    '/v1/licenses',
    {
      config: { permission: 'license.read', within: 'filtered' },
      schema: {
        summary: 'List licenses',
        querystring: licenseQuerySchema,
        response: { 200: pageSchema(licenseSchema) },
      },
    },
    async ({ query, access }) => {
      await requireFilters(server, access, query);
      return listLicenses(server, query, access);
    },
  );
  app.get(
    '/v1/licenses/:id',
    {
      config: { permission: 'license.read', within: { thing: 'license', parameter: 'id' } },
      schema: { summary: 'Show a license', params: licenseParams, response: { 200: licenseSchema } },
    },
    (request) => getLicense(server, request.params.id),
  );
  app.get(
    '/v1/licenses/:id/nodes',
    {
      config: { permission: 'node.read', within: { thing: 'license', parameter: 'id' } },
      schema: {
        summary: 'List the nodes of a license, with what each reports about its plaintext',
        params: licenseParams,
        querystring: pageQuerySchema,
        response: { 200: pageSchema(licenseNodeSchema) },
      },
    },
    (request) => listLicenseNodes(server, request.params.id, request.query),
  );
  app.patch(
    '/v1/licenses/:id',
    {
      config: { permission: 'license.write', within: { thing: 'license', parameter: 'id' } },
      schema: {
        summary: 'Change what a license says; once answered, it is in force',
        params: licenseParams,
        headers: ifMatchHeaders,
        body: licenseUpdateSchema,
        response: { 200: licenseSchema },
      },
    },
    async (request) => {
      const { id } = request.params;
      return updateLicense(
        await ifMatched(server, request, { thing: 'license', name: id }),
        request.actor,
        id,
        request.body,
      );
    },
  );
  app.post(
    '/v1/licenses/:id([^:]+)::renew',
    {
      config: { permission: 'license.write', within: { thing: 'license', parameter: 'id' } },
      schema: {
        summary: 'Prolong a license, from its end or from now when that is past',
        params: licenseParams,
        headers: idempotencyKeyHeaders.extend(ifMatchHeaders.shape),
        body: licenseRenewalSchema.nullish(),
        response: { 200: licenseSchema },
      },
    },
    (request) =>
      runOnce(server, request, async (once) => {
        const { id } = request.params;
        const guarded = await ifMatched(once, request, { thing: 'license', name: id });
        return renewLicense(guarded, request.actor, id, request.body?.durationMs);
      }),
  );
  for (const verb of ['suspend', 'reinstate', 'revoke'] as const) {
    app.post(
      `/v1/licenses/:id([^:]+)::${verb}`,
      {
        config: { permission: 'license.write', within: { thing: 'license', parameter: 'id' } },
        schema: {
          summary: `${verb[0]?.toUpperCase() ?? ''}${verb.slice(1)} a license; once answered, it is in force`,
          params: licenseParams,
          headers: ifMatchHeaders,
          // Without a reason there need not be a body.
          body: licenseChangeInputSchema.nullish(),
          response: { 200: licenseSchema },
        },
      },
      async (request) => {
        const { id } = request.params;
        const guarded = await ifMatched(server, request, { thing: 'license', name: id });
        return changeLicense(guarded, request.actor, id, verb, request.body?.reason);
      },
    );
  }
  app.post(
    '/v1/licenses/:id/join-tokens',
    {
      config: { permission: 'join-token.write', within: { thing: 'license', parameter: 'id' } },
      schema: {
        summary: 'Create a join token for a license; the answer holds it, once',
        params: licenseParams,
        headers: idempotencyKeyHeaders,
        body: joinTokenInputSchema,
        response: { 201: createdJoinTokenSchema },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(
          await runOnce(server, request, (once) =>
            createJoinToken(once, request.actor, request.params.id, request.body),
          ),
        ),
  );
  app.get(
    '/v1/join-tokens',
    {
      config: { permission: 'join-token.read', within: 'filtered' },
      schema: {
        summary: 'List join tokens',
        querystring: joinTokenQuerySchema,
        response: { 200: pageSchema(joinTokenSchema) },
      },
    },
    async ({ query, access }) => {
      await requireFilters(server, access, query);
      return listJoinTokens(server, query, access);
    },
  );
  app.post(
    '/v1/join-tokens/:id([^:]+)::revoke',
    {
      config: { permission: 'join-token.write', within: { thing: 'join token', parameter: 'id' } },
      schema: {
        summary: 'Revoke a join token',
        params: licenseParams,
        headers: ifMatchHeaders,
        response: { 200: joinTokenSchema },
      },
    },
    async (request) => {
      const { id } = request.params;
      return revokeJoinToken(
        await ifMatched(server, request, { thing: 'join_token', name: id }),
        request.actor,
        id,
      );
    },
  );
  app.get(
    '/v1/leases',
    {
      config: { permission: 'lease.read', within: 'filtered' },
      schema: {
        summary: 'List leases',
        querystring: leaseQuerySchema,
        response: { 200: pageSchema(leaseSchema) },
      },
    },
    async ({ query, access }) => {
      await requireFilters(server, access, query);
      return listLeases(server, query, access);
    },
  );
  app.get(
    '/v1/leases/:id',
    {
      config: { permission: 'lease.read', within: { thing: 'lease', parameter: 'id' } },
      schema: { summary: 'Show a lease', params: licenseParams, response: { 200: leaseSchema } },
    },
    (request) => getLease(server, request.params.id),
  );
}

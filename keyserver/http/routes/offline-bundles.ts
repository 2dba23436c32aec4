/** Bundles for nodes without a line to the key server. */
import * as z from 'zod';
import {
  checkOutInputSchema,
  checkedOutSchema,
  offlineBundleSchema,
} from '#src/wire/admin/offline-bundle.ts';
import { pageQuerySchema, pageSchema } from '#src/wire/admin/page.ts';
import { checkOut } from '../../domain/check-out.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { listOfflineBundles } from '../../domain/offline-bundles.ts';
import type { AdminApp } from '../admin-app.ts';
import { MAX_CHECK_OUT_BODY_BYTES } from '../../limits.ts';

const licenseParams = z.object({ id: z.string() });

export function offlineBundleRoutes(app: AdminApp, server: KeyServer): void {
  app.post(
    '/v1/licenses/:id([^:]+)::check-out',
    {
      bodyLimit: MAX_CHECK_OUT_BODY_BYTES,
      config: { permission: 'license.write', within: { thing: 'license', parameter: 'id' } },
      schema: {
        summary: 'Make offline bundles for the nodes whose requests are given; a repeat makes the next ones',
        params: licenseParams,
        body: checkOutInputSchema,
        response: { 201: checkedOutSchema },
      },
    },
    async (request, reply) =>
      reply.code(201).send(await checkOut(server, request.actor, request.params.id, request.body)),
  );
  app.get(
    '/v1/licenses/:id/offline-bundles',
    {
      config: { permission: 'license.read', within: { thing: 'license', parameter: 'id' } },
      schema: {
        summary: 'List the offline bundles of a license',
        params: licenseParams,
        querystring: pageQuerySchema,
        response: { 200: pageSchema(offlineBundleSchema) },
      },
    },
    (request) => listOfflineBundles(server, request.params.id, request.query),
  );
}

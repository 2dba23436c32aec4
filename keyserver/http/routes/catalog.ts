/** The organization, its products and its releases: the part of the API that CI uses too. */
import * as z from 'zod';
import { organizationSchema } from '#src/wire/admin/organization.ts';
import { pageQuerySchema, pageSchema } from '#src/wire/admin/page.ts';
import { productInputSchema, productSchema } from '#src/wire/admin/product.ts';
import {
  releaseInputSchema,
  releaseQuerySchema,
  releaseSchema,
  signedReleaseSchema,
} from '#src/wire/admin/release.ts';
import { MAX_RELEASE_BODY_BYTES } from '../../limits.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { getOrganization } from '../../domain/organization.ts';
import { createProduct, getProduct, listProducts } from '../../domain/products.ts';
import { getRelease, listReleases, registerRelease, yankRelease } from '../../domain/releases.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';
import { idempotencyKeyHeaders, runOnce } from '../idempotency-key.ts';

export function catalogRoutes(app: AdminApp, server: KeyServer): void {
  app.get(
    '/v1/organization',
    {
      config: { permission: 'organization.read', within: 'everyone' },
      schema: { summary: 'The organization and its public keys', response: { 200: organizationSchema } },
    },
    () => getOrganization(server),
  );
  app.post(
    '/v1/products',
    {
      config: { permission: 'product.write' },
      schema: {
        summary: 'Create a product',
        headers: idempotencyKeyHeaders,
        body: productInputSchema,
        response: { 201: productSchema },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(await runOnce(server, request, (once) => createProduct(once, request.actor, request.body))),
  );
  app.get(
    '/v1/products',
    {
      config: { permission: 'product.read', within: 'filtered' },
      schema: {
        summary: 'List products',
        querystring: pageQuerySchema,
        response: { 200: pageSchema(productSchema) },
      },
    },
    (request) => listProducts(server, request.query, request.access),
  );
  app.get(
    '/v1/products/:code',
    {
      config: { permission: 'product.read', within: { thing: 'product', parameter: 'code' } },
      schema: {
        summary: 'Show a product',
        params: z.object({ code: z.string() }),
        response: { 200: productSchema },
      },
    },
    (request) => getProduct(server, request.params.code),
  );
  app.post(
    '/v1/releases',
    {
      config: { permission: 'release.register', within: { thing: 'product', field: 'productCode' } },
      bodyLimit: MAX_RELEASE_BODY_BYTES,
      schema: {
        summary:
          'Register a release and its image key, and have its statement signed; repeating it is harmless',
        body: releaseInputSchema,
        response: { 200: signedReleaseSchema, 201: signedReleaseSchema },
      },
    },
    async (request, reply) => {
      const { release, created } = await registerRelease(server, request.actor, request.body);
      return reply.code(created ? 201 : 200).send(release);
    },
  );
  app.get(
    '/v1/releases',
    {
      config: { permission: 'release.list', within: 'filtered' },
      schema: {
        summary: 'List releases',
        querystring: releaseQuerySchema,
        response: { 200: pageSchema(releaseSchema) },
      },
    },
    (request) => listReleases(server, request.query, request.access),
  );
  app.get(
    '/v1/releases/:id',
    {
      config: { permission: 'release.read', within: { thing: 'release', parameter: 'id' } },
      schema: {
        summary: 'Show a release with its signed statement',
        params: z.object({ id: z.string() }),
        response: { 200: signedReleaseSchema },
      },
    },
    (request) => getRelease(server, request.params.id),
  );
  app.post(
    '/v1/releases/:id([^:]+)::yank',
    {
      config: { permission: 'release.yank', within: { thing: 'release', parameter: 'id' } },
      schema: {
        summary: 'Withdraw a release: no new lease for its images',
        params: z.object({ id: z.string() }),
        headers: ifMatchHeaders,
        response: { 200: releaseSchema },
      },
    },
    async (request) => {
      const { id } = request.params;
      return yankRelease(await ifMatched(server, request, { thing: 'release', name: id }), request.actor, id);
    },
  );
}

/**
 * Image keys: those that the key server makes itself, so that a release can take over layers of an earlier one, and the
 * end of any.
 */
import * as z from 'zod';
import {
  destructionInputSchema,
  elementsInputSchema,
  imageKeySchema,
  mintedImageKeyInputSchema,
  mintedImageKeySchema,
  wrappedElementsSchema,
} from '#src/wire/admin/image-key.ts';
import { mintImageKey, wrapElements } from '../../domain/image-keys.ts';
import { cancelDestruction, getImageKey, scheduleDestruction } from '../../domain/image-key-destruction.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';
import { idempotencyKeyHeaders, runOnce } from '../idempotency-key.ts';

export function imageKeyRoutes(app: AdminApp, server: KeyServer): void {
  app.post(
    '/v1/image-keys',
    {
      config: { permission: 'image-key.mint', within: { thing: 'product', field: 'productCode' } },
      schema: {
        summary: 'Make an image key that stays in the key server; it opens nothing until a release has it',
        headers: idempotencyKeyHeaders,
        body: mintedImageKeyInputSchema,
        response: { 201: mintedImageKeySchema },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(await runOnce(server, request, (once) => mintImageKey(once, request.actor, request.body))),
  );
  app.post(
    '/v1/image-keys/:id/elements',
    {
      config: { permission: 'image-key.mint', within: { thing: 'image key', parameter: 'id' } },
      schema: {
        summary: 'Wrap layer keys under an image key that has no release yet; none of them is shown',
        params: z.object({ id: z.string() }),
        body: elementsInputSchema,
        response: { 200: wrappedElementsSchema },
      },
    },
    (request) => wrapElements(server, request.actor, request.params.id, request.body),
  );
  destructionRoutes(app, server);
}

function destructionRoutes(app: AdminApp, server: KeyServer): void {
  const params = z.object({ id: z.string() });
  app.get(
    '/v1/image-keys/:id',
    {
      config: { permission: 'custody.read' },
      schema: {
        summary: 'Show the state of an image key; the key itself is never shown',
        params,
        response: { 200: imageKeySchema },
      },
    },
    (request) => getImageKey(server, request.params.id),
  );
  app.post(
    '/v1/image-keys/:id/schedule-destruction',
    {
      config: { permission: 'image-key.schedule' },
      schema: {
        summary: 'Stop an image key at once and destroy it in some days; until then it can be cancelled',
        params,
        headers: ifMatchHeaders,
        body: destructionInputSchema,
        response: { 200: imageKeySchema },
      },
    },
    async (request) => {
      const { id } = request.params;
      const guarded = await ifMatched(server, request, { thing: 'image_key', name: id });
      return scheduleDestruction(guarded, request.actor, id, request.body.days);
    },
  );
  app.post(
    '/v1/image-keys/:id/cancel-destruction',
    {
      config: { permission: 'image-key.schedule' },
      schema: {
        summary: 'Make an image key active again that is not destroyed yet',
        params,
        headers: ifMatchHeaders,
        response: { 200: imageKeySchema },
      },
    },
    async (request) => {
      const { id } = request.params;
      const guarded = await ifMatched(server, request, { thing: 'image_key', name: id });
      return cancelDestruction(guarded, request.actor, id);
    },
  );
}

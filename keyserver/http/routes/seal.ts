/** Sealing, unsealing and the slots of the root key. To unseal takes the secret itself, hence no token. */
import * as z from 'zod';
import {
  addedSharedSlotSchema,
  sealInputSchema,
  sealStatusSchema,
  sharedSlotInputSchema,
  slotRemovalSchema,
  unsealInputSchema,
} from '#src/wire/admin/seal.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { addSharedSlot, removeSlot } from '../../domain/root-key-slots.ts';
import { Backups } from '../../domain/backups.ts';
import { type Unsealing, seal } from '../../domain/unseal.ts';
import { UNSEAL_RATE } from '../../limits.ts';
import { RateLimit, addressGroup } from '../../rate-limit.ts';
import type { AdminApp } from '../admin-app.ts';

const BACKUP_MEDIA_TYPE = 'application/octet-stream';

/** For everybody who reaches the admin API. */
export function unsealRoutes(app: AdminApp, server: KeyServer, unsealing: Unsealing): void {
  const attempts = new RateLimit(UNSEAL_RATE, server.clock);
  app.get(
    '/v1/sys/seal-status',
    {
      schema: {
        summary: 'Whether the key server is sealed, and what opens it; takes no token',
        security: [],
        response: { 200: sealStatusSchema },
      },
    },
    () => unsealing.status(),
  );
  app.post(
    '/v1/sys/unseal',
    {
      schema: {
        summary: 'Open the keys; takes no token, but the secret that opens them',
        security: [],
        body: unsealInputSchema,
        response: { 200: sealStatusSchema },
      },
      onRequest: async (request) => {
        attempts.spend(addressGroup(request.ip), 'attempts to unseal from this address');
      },
    },
    (request) => unsealing.unseal(request.body),
  );
}

export function sealRoutes(app: AdminApp, server: KeyServer, unsealing: Unsealing): void {
  const backups = new Backups(server);
  app.post(
    '/v1/sys/backup',
    {
      config: { permission: 'custody.backup' },
      schema: {
        summary: 'Everything as it is now, in a file that only the root key opens',
        produces: [BACKUP_MEDIA_TYPE],
        response: { 200: z.unknown().describe('The file') },
      },
    },
    async (request, reply) => {
      const { file, done } = await backups.begin(request.actor);
      done.catch((error: unknown) => {
        request.log.error({ err: error }, 'a backup was not finished');
      });
      return reply.type(BACKUP_MEDIA_TYPE).send(file);
    },
  );
  app.post(
    '/v1/sys/seal',
    {
      config: { permission: 'custody.seal' },
      schema: {
        summary: 'Forget the keys: no key leaves before the key server is unsealed',
        body: sealInputSchema,
        response: { 200: sealStatusSchema },
      },
    },
    async (request) => {
      await seal(server, request.actor, request.body);
      return unsealing.status();
    },
  );
  // No Idempotency-Key: shares are in no table, not even sealed.
  app.post(
    '/v1/sys/slots',
    {
      config: { permission: 'custody.write' },
      schema: {
        summary: 'Share the root key among people; the answer holds the shares, once',
        body: sharedSlotInputSchema,
        response: { 201: addedSharedSlotSchema },
      },
    },
    async (request, reply) => reply.code(201).send(await addSharedSlot(server, request.actor, request.body)),
  );
  app.post(
    '/v1/sys/slots/:id/remove',
    {
      config: { permission: 'custody.write' },
      schema: {
        summary: 'Remove a slot: what opened it opens nothing any more',
        params: z.object({ id: z.string() }),
        body: slotRemovalSchema,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await removeSlot(server, request.actor, request.params.id, request.body.proof);
      return reply.code(204).send(null);
    },
  );
}

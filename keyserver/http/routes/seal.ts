/** Sealing and unsealing. To unseal takes the secret itself, hence no token. */
import { sealInputSchema, sealStatusSchema, unsealInputSchema } from '#src/wire/admin/seal.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { seal, sealStatus, unseal } from '../../domain/unseal.ts';
import { UNSEAL_RATE } from '../../limits.ts';
import { RateLimit, addressGroup } from '../../rate-limit.ts';
import type { AdminApp } from '../admin-app.ts';

/** For everybody who reaches the admin API. */
export function unsealRoutes(app: AdminApp, server: KeyServer): void {
  const attempts = new RateLimit(UNSEAL_RATE, server.clock);
  app.get(
    '/v1/sys/seal-status',
    {
      schema: {
        summary: 'Whether the key server is sealed; takes no token',
        security: [],
        response: { 200: sealStatusSchema },
      },
    },
    () => sealStatus(server),
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
    (request) => unseal(server, request.body),
  );
}

export function sealRoutes(app: AdminApp, server: KeyServer): void {
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
    (request) => seal(server, request.actor, request.body),
  );
}

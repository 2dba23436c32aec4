/** For whoever watches over the process: is it alive, and should it get requests. Without a token. */
import type { FastifyInstance } from 'fastify';
import { toLatchkeyError } from '#src/base/errors.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { sealed } from '../../domain/seal.ts';

const NOT_READY = 503;

export function healthRoutes(app: FastifyInstance, server: KeyServer): void {
  // Not about the database: a restart would not bring that back.
  app.get('/healthz', { schema: { hide: true } }, () => ({ status: 'ok' }));
  app.get('/readyz', { schema: { hide: true } }, async (_request, reply) => {
    if (server.drain.hasBegun) return reply.code(NOT_READY).send({ status: 'not-ready', reason: 'STOPPING' });
    try {
      await server.store.read.selectFrom('organization').select('id').executeTakeFirstOrThrow();
      if (server.seal.isSealed) throw sealed();
      // A full disk takes no requests away: revocations still have to come through.
      const disk = await server.store.reserve?.diskState();
      return { status: 'ready', ...(disk === undefined || disk === 'OK' ? {} : { disk }) };
    } catch (error) {
      // The code alone: who asks needs no token, and messages can name hosts.
      return reply.code(NOT_READY).send({ status: 'not-ready', reason: toLatchkeyError(error).code });
    }
  });
}

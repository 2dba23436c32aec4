/** Nodes. */
import * as z from 'zod';
import { nodeSchema, pageQuerySchema, pageSchema } from '#src/wire/admin-api.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { listNodes, setNodeState } from '../../domain/nodes.ts';
import type { AdminApp } from '../admin-app.ts';

const STATE_OF_VERB = { ban: 'BANNED', unban: 'ACTIVE' } as const;

export function nodeRoutes(app: AdminApp, server: KeyServer): void {
  app.get(
    '/v1/nodes',
    {
      schema: {
        summary: 'List nodes',
        querystring: pageQuerySchema,
        response: { 200: pageSchema(nodeSchema) },
      },
    },
    (request) => listNodes(server, request.query),
  );
  for (const verb of ['ban', 'unban'] as const) {
    app.post(
      `/v1/nodes/:id([^:]+)::${verb}`,
      {
        schema: {
          summary: verb === 'ban' ? 'Ban a node; its seats become free' : 'Let a banned node in again',
          params: z.object({ id: z.string() }),
          response: { 200: nodeSchema },
        },
      },
      (request) => setNodeState(server, request.actor, request.params.id, STATE_OF_VERB[verb]),
    );
  }
}

/** Nodes. */
import * as z from 'zod';
import { NODE_ACTIONS, type NodeAction } from '#src/licensing/node-state.ts';
import { nodeSchema } from '#src/wire/admin/node.ts';
import { pageQuerySchema, pageSchema } from '#src/wire/admin/page.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { changeNode, listNodes } from '../../domain/nodes.ts';
import type { AdminApp } from '../admin-app.ts';

const SUMMARIES = {
  ban: 'Ban a node; its seats become free',
  unban: 'Let a banned node in again',
  retire: 'Retire a node that is gone; its seats become free, and it may enrol anew',
  readmit: 'Let a node in again that was found restored or copied',
} as const satisfies Record<NodeAction, string>;

export function nodeRoutes(app: AdminApp, server: KeyServer): void {
  app.get(
    '/v1/nodes',
    {
      config: { permission: 'node.read' },
      schema: {
        summary: 'List nodes',
        querystring: pageQuerySchema,
        response: { 200: pageSchema(nodeSchema) },
      },
    },
    (request) => listNodes(server, request.query),
  );
  for (const verb of NODE_ACTIONS) {
    app.post(
      `/v1/nodes/:id([^:]+)::${verb}`,
      {
        config: { permission: 'node.write' },
        schema: {
          summary: SUMMARIES[verb],
          params: z.object({ id: z.string() }),
          response: { 200: nodeSchema },
        },
      },
      (request) => changeNode(server, request.actor, request.params.id, verb),
    );
  }
}

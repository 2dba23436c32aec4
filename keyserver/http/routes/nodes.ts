/** Nodes. */
import * as z from 'zod';
import { NODE_ACTIONS, type NodeAction } from '#src/licensing/node-state.ts';
import { nodeQuerySchema, nodeSchema } from '#src/wire/admin/node.ts';
import { pageSchema } from '#src/wire/admin/page.ts';
import { requireFilters } from '../../domain/access.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { changeNode, getNode, listNodes } from '../../domain/nodes.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';

const nodeParams = z.object({ id: z.string() });

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
        querystring: nodeQuerySchema,
        response: { 200: pageSchema(nodeSchema) },
      },
    },
    async ({ query, access }) => {
      await requireFilters(server, access, query);
      return listNodes(server, query);
    },
  );
  app.get(
    '/v1/nodes/:id',
    {
      config: { permission: 'node.read' },
      schema: { summary: 'Show a node', params: nodeParams, response: { 200: nodeSchema } },
    },
    (request) => getNode(server, request.params.id),
  );
  for (const verb of NODE_ACTIONS) {
    app.post(
      `/v1/nodes/:id([^:]+)::${verb}`,
      {
        config: { permission: 'node.write' },
        schema: {
          summary: SUMMARIES[verb],
          params: nodeParams,
          headers: ifMatchHeaders,
          response: { 200: nodeSchema },
        },
      },
      async (request) => {
        const { id } = request.params;
        return changeNode(
          await ifMatched(server, request, { thing: 'node', name: id }),
          request.actor,
          id,
          verb,
        );
      },
    );
  }
}

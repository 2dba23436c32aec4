/** Customers. */
import * as z from 'zod';
import { customerInputSchema, customerSchema } from '#src/wire/admin/customer.ts';
import { pageQuerySchema, pageSchema } from '#src/wire/admin/page.ts';
import { createCustomer, listCustomers, setCustomerState } from '../../domain/customers.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import type { AdminApp } from '../admin-app.ts';
import { idempotencyKeyHeaders, runOnce } from '../idempotency-key.ts';

const STATE_OF_VERB = { block: 'BLOCKED', unblock: 'ACTIVE' } as const;

export function customerRoutes(app: AdminApp, server: KeyServer): void {
  app.post(
    '/v1/customers',
    {
      config: { permission: 'customer.write' },
      schema: {
        summary: 'Create a customer',
        headers: idempotencyKeyHeaders,
        body: customerInputSchema,
        response: { 201: customerSchema },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(await runOnce(server, request, (once) => createCustomer(once, request.actor, request.body))),
  );
  app.get(
    '/v1/customers',
    {
      config: { permission: 'customer.read', within: 'filtered' },
      schema: {
        summary: 'List customers',
        querystring: pageQuerySchema,
        response: { 200: pageSchema(customerSchema) },
      },
    },
    (request) => listCustomers(server, request.query, request.access),
  );
  for (const verb of ['block', 'unblock'] as const) {
    app.post(
      // Names may hold anything, colons too.
      `/v1/customers/:customer([^]+)::${verb}`,
      {
        config: { permission: 'customer.block' },
        schema: {
          summary: `${verb === 'block' ? 'Block' : 'Unblock'} a customer with all its licenses`,
          params: z.object({ customer: z.string() }),
          response: { 200: customerSchema },
        },
      },
      (request) => setCustomerState(server, request.actor, request.params.customer, STATE_OF_VERB[verb]),
    );
  }
}

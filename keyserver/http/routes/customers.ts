/** Customers. */
import * as z from 'zod';
import { customerInputSchema, customerQuerySchema, customerSchema } from '#src/wire/admin/customer.ts';
import { pageSchema } from '#src/wire/admin/page.ts';
import { createCustomer, getCustomer, listCustomers, setCustomerState } from '../../domain/customers.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';
import { idempotencyKeyHeaders, runOnce } from '../idempotency-key.ts';

const customerParams = z.object({ customer: z.string() });
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
        querystring: customerQuerySchema,
        response: { 200: pageSchema(customerSchema) },
      },
    },
    (request) => listCustomers(server, request.query, request.access),
  );
  app.get(
    '/v1/customers/:customer([^]+)',
    {
      config: { permission: 'customer.read', within: 'filtered' },
      schema: {
        summary: 'Show a customer, by id, external id or name',
        params: customerParams,
        response: { 200: customerSchema },
      },
    },
    (request) => getCustomer(server, request.params.customer, request.access),
  );
  for (const verb of ['block', 'unblock'] as const) {
    app.post(
      // Names may hold anything, colons too.
      `/v1/customers/:customer([^]+)::${verb}`,
      {
        config: { permission: 'customer.block' },
        schema: {
          summary: `${verb === 'block' ? 'Block' : 'Unblock'} a customer with all its licenses`,
          params: customerParams,
          headers: ifMatchHeaders,
          response: { 200: customerSchema },
        },
      },
      async (request) => {
        const { customer } = request.params;
        const guarded = await ifMatched(server, request, { thing: 'customer', name: customer });
        return setCustomerState(guarded, request.actor, customer, STATE_OF_VERB[verb]);
      },
    );
  }
}

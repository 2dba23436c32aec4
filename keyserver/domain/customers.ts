/** Customers: who holds licenses. Blocking one stops all of them at once. */
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Customer, CustomerInput, CustomerQuery } from '#src/wire/admin/customer.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { Actor } from '../audit/append-event.ts';
import type { CustomerTable } from '../db/tables/license.ts';
import type { Reader } from '../db/store.ts';
import { type Access, WHOLE_ORGANIZATION, isWithin } from './access.ts';
import { runChange } from './change.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { nodesOfCustomer } from './license-nodes.ts';
import { allOf, isEqual, isOfOrganization } from './list-filter.ts';
import { openPage } from './page.ts';

/** @throws LatchkeyError STATE_CONFLICT when the external id is taken */
export function createCustomer(server: KeyServer, actor: Actor, input: CustomerInput): Promise<Customer> {
  return runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    await refuseTakenExternalId(writer, organizationId, input.externalId);
    const row: CustomerTable = {
      id: newId('cust', nowMs),
      organization_id: organizationId,
      revision: await change.nextRevision(),
      created_at_ms: nowMs,
      updated_at_ms: nowMs,
      name: input.name,
      external_id: input.externalId ?? null,
      state: 'ACTIVE',
    };
    await writer.insertInto('customer').values(row).execute();
    await change.audit({
      action: 'customer.create',
      target: row.id,
      detail: { externalId: await change.conceal(row.external_id) },
    });
    return toCustomer(row);
  });
}

export async function listCustomers(
  server: KeyServer,
  query: CustomerQuery,
  access: Access,
): Promise<Page<Customer>> {
  const page = openPage(server.cursorKey, { name: 'customers', prefix: 'cust' }, query);
  const rows = await server.store.read
    .selectFrom('customer')
    .selectAll()
    .where(
      query.externalId === undefined
        ? isOfOrganization('customer.organization_id', server.organizationId)
        : // One of these at most, found by the index of both.
          allOf(isEqual('customer.organization_id', server.organizationId)),
    )
    .where(page.isOn('customer.id'))
    .where(isWithin(access, { customer: 'customer.id' }))
    .where(
      allOf(
        isEqual('customer.state', query.state),
        isEqual('customer.name', query.name),
        isEqual('customer.external_id', query.externalId),
      ),
    )
    .orderBy('id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(rows.map(toCustomer));
}

/**
 * Gives one of the customers that a caller sees.
 * @param reference id, external id or name
 * @throws LatchkeyError STATE_NOT_FOUND, STATE_CONFLICT
 */
export async function getCustomer(server: KeyServer, reference: string, access: Access): Promise<Customer> {
  return toCustomer(await requireCustomer(server.store.read, server.organizationId, reference, access));
}

/**
 * Blocks or unblocks a customer. All its licenses get a new epoch, so leases of before are void.
 * @param reference id, external id or name
 * @throws LatchkeyError STATE_NOT_FOUND, STATE_CONFLICT
 */
export async function setCustomerState(
  server: KeyServer,
  actor: Actor,
  reference: string,
  state: Customer['state'],
): Promise<Customer> {
  const { customer, nodeIds } = await runChange(
    server,
    actor,
    async (change) => {
      const { writer, organizationId, nowMs } = change;
      const row = await requireCustomer(writer, organizationId, reference);
      if (row.state === state) return { customer: toCustomer(row), nodeIds: [] };
      const revision = await change.nextRevision();
      const changed = { state, revision, updated_at_ms: nowMs };
      await writer.updateTable('customer').set(changed).where('id', '=', row.id).execute();
      const licenses = await writer
        .updateTable('license')
        .set((column) => ({ epoch: column('epoch', '+', 1), revision, updated_at_ms: nowMs }))
        .where('customer_id', '=', row.id)
        .returning('id')
        .execute();
      await change.audit({
        action: state === 'BLOCKED' ? 'customer.block' : 'customer.unblock',
        target: row.id,
        detail: { licenses: licenses.length },
      });
      return {
        customer: toCustomer({ ...row, ...changed }),
        nodeIds: await nodesOfCustomer(writer, row.id),
      };
    },
    state === 'BLOCKED' ? 'URGENT' : 'ORDINARY',
  );
  server.changes.publish(nodeIds);
  return customer;
}

/**
 * Finds a customer by id, external id or name, in this order, among those that a caller sees.
 * @throws LatchkeyError STATE_NOT_FOUND, STATE_CONFLICT when several have that name
 */
export async function requireCustomer(
  reader: Reader,
  organizationId: string,
  reference: string,
  access: Access = WHOLE_ORGANIZATION,
): Promise<Selectable<CustomerTable>> {
  for (const column of ['id', 'external_id', 'name'] as const) {
    const [row, second] = await reader
      .selectFrom('customer')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where(column, '=', reference)
      .where(isWithin(access, { customer: 'customer.id' }))
      .limit(2)
      .execute();
    if (second !== undefined) {
      throw new LatchkeyError('STATE_CONFLICT', `several customers are called ${JSON.stringify(reference)}`, {
        hint: 'name the one you mean by its id',
      });
    }
    if (row !== undefined) return row;
  }
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no customer ${JSON.stringify(reference)}`, {
    hint: 'see `latchkey customer list`',
  });
}

async function refuseTakenExternalId(
  reader: Reader,
  organizationId: string,
  externalId: string | undefined,
): Promise<void> {
  if (externalId === undefined) return;
  const taken = await reader
    .selectFrom('customer')
    .select('id')
    .where('organization_id', '=', organizationId)
    .where('external_id', '=', externalId)
    .executeTakeFirst();
  if (taken !== undefined) {
    throw new LatchkeyError('STATE_CONFLICT', `customer ${taken.id} already has this external id`, {
      hint: 'external ids name one customer each',
    });
  }
}

function toCustomer(row: Selectable<CustomerTable>): Customer {
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    name: row.name,
    externalId: row.external_id,
    state: row.state,
  };
}

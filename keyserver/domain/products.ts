/** Products: what licenses are sold for and releases belong to. */
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Page, PageQuery } from '#src/wire/admin/page.ts';
import type { Product, ProductInput } from '#src/wire/admin/product.ts';
import type { Actor } from '../audit/append-event.ts';
import type { ProductTable } from '../db/tables/catalog.ts';
import type { Reader } from '../db/store.ts';
import { type Access, WHOLE_ORGANIZATION, isWithin } from './access.ts';
import { runChange } from './change.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { openPage } from './page.ts';

/** @throws LatchkeyError STATE_CONFLICT when the code is taken */
export function createProduct(server: KeyServer, actor: Actor, input: ProductInput): Promise<Product> {
  return runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    const taken = await productRow(writer, organizationId, input.code);
    if (taken !== undefined) {
      throw new LatchkeyError('STATE_CONFLICT', `there is already a product ${input.code}`, {
        hint: 'choose another code',
      });
    }
    const row: ProductTable = {
      id: newId('prod', nowMs),
      organization_id: organizationId,
      revision: await change.nextRevision(),
      created_at_ms: nowMs,
      updated_at_ms: nowMs,
      code: input.code,
      name: input.name,
      contact: input.contact ?? null,
    };
    await writer.insertInto('product').values(row).execute();
    await change.audit({ action: 'product.create', target: row.id, detail: { code: row.code } });
    return toProduct(row);
  });
}

export async function listProducts(
  server: KeyServer,
  query: PageQuery,
  access: Access,
): Promise<Page<Product>> {
  const page = openPage(server.cursorKey, { name: 'products', prefix: 'prod' }, query);
  const rows = await server.store.read
    .selectFrom('product')
    .selectAll()
    .where('organization_id', '=', server.organizationId)
    .where(page.isOn('product.id'))
    .where(isWithin(access, { product: 'product.id' }))
    .orderBy('id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(rows.map(toProduct));
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function getProduct(server: KeyServer, code: string): Promise<Product> {
  return toProduct(await requireProduct(server.store.read, server.organizationId, code));
}

/**
 * Finds a product by its code, among those that a caller sees.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export async function requireProduct(
  reader: Reader,
  organizationId: string,
  code: string,
  access: Access = WHOLE_ORGANIZATION,
): Promise<Selectable<ProductTable>> {
  const row = await productRow(reader, organizationId, code, access);
  if (row === undefined) {
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no product ${JSON.stringify(code)}`, {
      hint: 'see `latchkey product list`',
    });
  }
  return row;
}

function productRow(
  reader: Reader,
  organizationId: string,
  code: string,
  access: Access = WHOLE_ORGANIZATION,
): Promise<Selectable<ProductTable> | undefined> {
  return reader
    .selectFrom('product')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .where('code', '=', code)
    .where(isWithin(access, { product: 'product.id' }))
    .executeTakeFirst();
}

function toProduct(row: Selectable<ProductTable>): Product {
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    code: row.code,
    name: row.name,
    contact: row.contact,
  };
}

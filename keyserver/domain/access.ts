/** The part of an organization that a caller sees and changes; all else answers as if it were not there. */
import { type Expression, type SqlBool, sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import type { KeyServer } from './key-server.ts';

export interface Access {
  /** Null = all products. */
  readonly productId: string | null;
  /** Null = all customers. */
  readonly customerId: string | null;
}

export const WHOLE_ORGANIZATION: Access = { productId: null, customerId: null };

export function isWholeOrganization({ productId, customerId }: Access): boolean {
  return productId === null && customerId === null;
}

/** The columns of a query (`table.column`) by which its rows belong to products and customers. */
export interface OwnerColumns {
  readonly product?: string;
  readonly customer?: string;
  readonly license?: string;
}

/**
 * The condition that keeps a query within an access. What has no product (or customer) of its own belongs to those it
 * has licenses for.
 */
export function isWithin(access: Access, columns: OwnerColumns): Expression<SqlBool> {
  const conditions = [
    access.productId === null ? null : isOwned('product', access.productId, columns),
    access.customerId === null ? null : isOwned('customer', access.customerId, columns),
  ].filter((condition) => condition !== null);
  return conditions.length === 0 ? sql<SqlBool>`1 = 1` : sql<SqlBool>`(${sql.join(conditions, sql` and `)})`;
}

function isOwned(owner: 'product' | 'customer', ownerId: string, columns: OwnerColumns): Expression<SqlBool> {
  const own = columns[owner];
  if (own !== undefined) return sql<SqlBool>`${sql.ref(own)} = ${ownerId}`;
  const [column, licenseColumn] =
    columns.license !== undefined
      ? [columns.license, 'id']
      : columns.product !== undefined
        ? [columns.product, 'product_id']
        : [columns.customer, 'customer_id'];
  if (column === undefined) throw new TypeError('a query has no column that says whose its rows are');
  const owned = sql`select owned.${sql.ref(licenseColumn)} from license as owned where owned.${sql.ref(`${owner}_id`)} = ${ownerId}`;
  return sql<SqlBool>`${sql.ref(column)} in (${owned})`;
}

/** Where a thing that a request names is kept, by what it is named, and whose it is. */
const THINGS = {
  product: { table: 'product', key: 'code', columns: { product: 'product.id' } },
  release: { table: 'release', key: 'id', columns: { product: 'release.product_id' } },
  'image key': { table: 'image_key', key: 'id', columns: { product: 'image_key.product_id' } },
  license: {
    table: 'license',
    key: 'id',
    columns: { product: 'license.product_id', customer: 'license.customer_id' },
  },
  lease: { table: 'lease', key: 'id', columns: { license: 'lease.license_id' } },
  'join token': { table: 'join_token', key: 'id', columns: { license: 'join_token.license_id' } },
} as const;

/** What lists are filtered by, and where it is listed itself. */
const FILTERS = { license: 'see `latchkey license list`', node: 'see `latchkey node list`' } as const;

export type OwnedThing = keyof typeof THINGS;

/**
 * Refuses a thing outside an access. It answers the same for one that is not there at all.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export async function requireWithin(
  server: KeyServer,
  access: Access,
  thing: OwnedThing,
  name: string,
): Promise<void> {
  if (isWholeOrganization(access)) return;
  const { table, key, columns } = THINGS[thing];
  const row = await server.store.read
    .selectFrom(table)
    .select('organization_id')
    .where('organization_id', '=', server.organizationId)
    .where(sql.ref(`${table}.${key}`), '=', name)
    .where(isWithin(access, columns))
    .executeTakeFirst();
  if (row !== undefined) return;
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no ${thing} ${JSON.stringify(name)}`, {
    hint: 'this token sees a part of the organization only',
  });
}

/** Ids that a list is asked to look at alone. */
export type NamedInFilter = { readonly [Thing in keyof typeof FILTERS]?: string | undefined };

/**
 * Refuses filters that name what is not there: an empty list would say that it has nothing. A caller that sees no nodes
 * does not learn by them which ones there are.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export async function requireFilters(
  server: KeyServer,
  access: Access,
  { license, node }: NamedInFilter,
): Promise<void> {
  if (!isWholeOrganization(access)) {
    if (license !== undefined) await requireWithin(server, access, 'license', license);
    return;
  }
  if (license !== undefined) await requireThere(server, 'license', license);
  if (node !== undefined) await requireThere(server, 'node', node);
}

async function requireThere(server: KeyServer, thing: keyof typeof FILTERS, id: string): Promise<void> {
  const row = await server.store.read
    .selectFrom(thing)
    .select('id')
    .where('organization_id', '=', server.organizationId)
    .where('id', '=', id)
    .executeTakeFirst();
  if (row !== undefined) return;
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no ${thing} ${JSON.stringify(id)}`, {
    hint: FILTERS[thing],
  });
}

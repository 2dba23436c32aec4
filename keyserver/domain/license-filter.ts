/** Which licenses a list asks for; their tag apart, which the list is read by. */
import { type Expression, type SqlBool, sql } from 'kysely';
import type { LicenseState } from '#src/licensing/license-state.ts';
import type { LicenseQuery } from '#src/wire/admin/license.ts';
import type { Reader } from '../db/store.ts';
import type { Access } from './access.ts';
import { requireCustomer } from './customers.ts';
import { allOf, isBetween, isEqual } from './list-filter.ts';
import { requireProduct } from './products.ts';

/** @throws LatchkeyError STATE_NOT_FOUND, STATE_CONFLICT for a customer or product that is not there, or not for this caller */
export async function licenseFilter(
  reader: Reader,
  organizationId: string,
  query: LicenseQuery,
  access: Access,
  nowMs: number,
): Promise<Expression<SqlBool>> {
  const customer =
    query.customer === undefined
      ? undefined
      : await requireCustomer(reader, organizationId, query.customer, access);
  const product =
    query.product === undefined
      ? undefined
      : await requireProduct(reader, organizationId, query.product, access);
  return allOf(
    isEqual('license.customer_id', customer?.id),
    isEqual('license.product_id', product?.id),
    query.state === undefined ? null : isInState(query.state, nowMs),
    query.node === undefined
      ? null
      : sql<SqlBool>`license.id in (select license_id from license_node where node_id = ${query.node})`,
    isBetween('license.expires_at_ms', query.expiresFromMs, query.expiresUntilMs),
  );
}

/** `licenseStateAt` as a condition; a test holds the two together. */
export function isInState(state: LicenseState, nowMs: number): Expression<SqlBool> {
  const hasBegun = sql<SqlBool>`(license.starts_at_ms is null or license.starts_at_ms <= ${nowMs})`;
  const hasExpired = sql<SqlBool>`(license.expires_at_ms is not null and license.expires_at_ms <= ${nowMs})`;
  const isOver = sql<SqlBool>`(license.expires_at_ms is not null and license.expires_at_ms + license.expiry_grace_ms <= ${nowMs})`;
  const isStored = sql<SqlBool>`license.state = ${state}`;
  const isInForce = sql<SqlBool>`license.state in ('PENDING', 'ACTIVE')`;
  switch (state) {
    case 'SUSPENDED':
    case 'REVOKED':
      return isStored;
    case 'NOT_STARTED':
      return sql<SqlBool>`(${isInForce} and not ${hasBegun})`;
    case 'EXPIRED':
      return sql<SqlBool>`(${isInForce} and ${hasBegun} and ${isOver})`;
    case 'GRACE':
      return sql<SqlBool>`(${isInForce} and ${hasBegun} and ${hasExpired} and not ${isOver})`;
    case 'PENDING':
    case 'ACTIVE':
      return sql<SqlBool>`(${isStored} and ${hasBegun} and not ${hasExpired})`;
  }
}

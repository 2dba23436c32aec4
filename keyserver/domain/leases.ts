/** Leases as an administrator sees them. */
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Lease, LeaseQuery } from '#src/wire/admin/lease.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { LeaseTable } from '../db/tables/lease.ts';
import { type Access, isWithin } from './access.ts';
import type { KeyServer } from './key-server.ts';
import { allOf, isEqual } from './list-filter.ts';
import { openPage } from './page.ts';

export async function listLeases(server: KeyServer, query: LeaseQuery, access: Access): Promise<Page<Lease>> {
  const page = openPage(server.cursorKey, { name: 'leases', prefix: 'lease' }, query);
  const rows = await server.store.read
    .selectFrom('lease')
    .selectAll()
    .where('organization_id', '=', server.organizationId)
    .where(page.isOn('lease.id'))
    .where(allOf(isEqual('lease.license_id', query.license), isEqual('lease.node_id', query.node)))
    .where(isWithin(access, { license: 'lease.license_id' }))
    .orderBy('id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(rows.map(toLease));
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function getLease({ organizationId, store }: KeyServer, leaseId: string): Promise<Lease> {
  const row = await store.read
    .selectFrom('lease')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .where('id', '=', leaseId)
    .executeTakeFirst();
  if (row !== undefined) return toLease(row);
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no lease ${JSON.stringify(leaseId)}`, {
    hint: 'see `latchkey license leases`',
  });
}

function toLease(row: Selectable<LeaseTable>): Lease {
  return {
    id: row.id,
    licenseId: row.license_id,
    epoch: row.epoch,
    nodeId: row.node_id,
    imageDigest: row.image_digest,
    imageKeyId: row.image_key_id,
    previousLeaseId: row.previous_lease_id,
    offlineBundleId: row.offline_bundle_id,
    issuedAtMs: row.issued_at_ms,
    renewAtMs: row.renew_at_ms,
    expiresAtMs: row.expires_at_ms,
  };
}

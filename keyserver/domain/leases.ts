/** Leases as an administrator sees them. */
import { type Selectable, sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { leaseState } from '#src/licensing/lease-state.ts';
import type { NodeState } from '#src/licensing/node-state.ts';
import type { Lease, LeaseQuery } from '#src/wire/admin/lease.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { LeaseTable } from '../db/tables/lease.ts';
import { type Access, isWithin } from './access.ts';
import type { KeyServer } from './key-server.ts';
import { allOf, isEqual } from './list-filter.ts';
import { openPage } from './page.ts';

export async function listLeases(server: KeyServer, query: LeaseQuery, access: Access): Promise<Page<Lease>> {
  const page = openPage(server.cursorKey, { name: 'leases', prefix: 'lease' }, query);
  const rows = await leaseRows(server)
    .where(page.isOn('lease.id'))
    .where(allOf(isEqual('lease.license_id', query.license), isEqual('lease.node_id', query.node)))
    .where(isWithin(access, { license: 'lease.license_id' }))
    .orderBy('lease.id', page.order)
    .limit(page.rows)
    .execute();
  const nowMs = server.clock.nowMs();
  return page.cut(rows.map((row) => toLease(row, nowMs)));
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function getLease(server: KeyServer, leaseId: string): Promise<Lease> {
  const row = await leaseRows(server).where('lease.id', '=', leaseId).executeTakeFirst();
  if (row !== undefined) return toLease(row, server.clock.nowMs());
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no lease ${JSON.stringify(leaseId)}`, {
    hint: 'see `latchkey license leases`',
  });
}

/** With what their state depends on. Looked up for each that is found: joined, those tables would be searched first. */
function leaseRows({ organizationId, store }: KeyServer) {
  return store.read
    .selectFrom('lease')
    .selectAll('lease')
    .select((select) => [
      select
        .selectFrom('license')
        .select('license.epoch')
        .whereRef('license.id', '=', 'lease.license_id')
        .$asScalar()
        .$notNull()
        .as('license_epoch'),
      select
        .selectFrom('node')
        .select('node.state')
        .whereRef('node.id', '=', 'lease.node_id')
        .$asScalar()
        .$notNull()
        .as('node_state'),
      select
        .selectFrom('lease as next')
        .select('next.id')
        .whereRef('next.previous_lease_id', '=', 'lease.id')
        .limit(sql.lit(1))
        .as('next_lease_id'),
    ])
    .where('lease.organization_id', '=', organizationId);
}

interface LeaseRow extends Selectable<LeaseTable> {
  readonly license_epoch: number;
  readonly node_state: NodeState;
  readonly next_lease_id: string | null;
}

function toLease(row: LeaseRow, nowMs: number): Lease {
  const usableUntilMs = row.usable_until_ms ?? row.expires_at_ms;
  const standing = {
    ...{ epoch: row.epoch, licenseEpoch: row.license_epoch, nodeState: row.node_state },
    ...{ isRenewed: row.next_lease_id !== null, usableUntilMs },
  };
  return {
    id: row.id,
    state: leaseState(standing, nowMs),
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
    usableUntilMs,
  };
}

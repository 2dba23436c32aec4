/** Leases as an administrator sees them. */
import type { Lease } from '#src/wire/admin/lease.ts';
import type { Page, PageQuery } from '#src/wire/admin/page.ts';
import { type Access, isWithin } from './access.ts';
import type { KeyServer } from './key-server.ts';
import { toPage } from './page.ts';

export async function listLeases(server: KeyServer, query: PageQuery, access: Access): Promise<Page<Lease>> {
  const rows = await server.store.read
    .selectFrom('lease')
    .selectAll()
    .where('organization_id', '=', server.organizationId)
    .where('id', '>', query.after)
    .where(isWithin(access, { license: 'lease.license_id' }))
    .orderBy('id')
    .limit(query.limit + 1)
    .execute();
  return toPage(
    rows.map((row) => ({
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
    })),
    query,
  );
}

/** Bundles that were made for nodes without a line, as an administrator sees them. */
import type { OfflineBundle } from '#src/wire/admin/offline-bundle.ts';
import type { Page, PageQuery } from '#src/wire/admin/page.ts';
import type { KeyServer } from './key-server.ts';
import { getLicense } from './licenses.ts';
import { openPage } from './page.ts';

/** The bundles of a license. @throws LatchkeyError STATE_NOT_FOUND */
export async function listOfflineBundles(
  server: KeyServer,
  licenseId: string,
  query: PageQuery,
): Promise<Page<OfflineBundle>> {
  const license = await getLicense(server, licenseId);
  const nowMs = server.clock.nowMs();
  const list = { name: `offline bundles of ${licenseId}`, prefix: 'bundle' } as const;
  const page = openPage(server.cursorKey, list, query);
  const rows = await server.store.read
    .selectFrom('offline_bundle')
    .innerJoin('node', 'node.id', 'offline_bundle.node_id')
    .selectAll('offline_bundle')
    .select('node.name as node_name')
    .select((select) =>
      select
        .selectFrom('offline_bundle as later')
        .select((inner) => inner.fn.max('later.sequence').as('sequence'))
        .whereRef('later.node_id', '=', 'offline_bundle.node_id')
        .whereRef('later.license_id', '=', 'offline_bundle.license_id')
        .as('newest_sequence'),
    )
    .where('offline_bundle.license_id', '=', licenseId)
    .where(page.isOn('offline_bundle.id'))
    .orderBy('offline_bundle.id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(
    rows.map((row): OfflineBundle => {
      const stateOf = (): OfflineBundle['state'] => {
        if (row.expires_at_ms <= nowMs) return 'EXPIRED';
        if (row.epoch !== license.epoch) return 'VOID';
        return row.sequence === row.newest_sequence ? 'ISSUED' : 'SUPERSEDED';
      };
      return {
        ...{
          id: row.id,
          revision: row.revision,
          createdAtMs: row.created_at_ms,
          updatedAtMs: row.updated_at_ms,
        },
        ...{ licenseId, epoch: row.epoch, nodeId: row.node_id, nodeName: row.node_name },
        ...{ sequence: row.sequence, leases: row.leases, maxStarts: row.max_starts },
        ...{ state: stateOf(), expiresAtMs: row.expires_at_ms },
      };
    }),
  );
}

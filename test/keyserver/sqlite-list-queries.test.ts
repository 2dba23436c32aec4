/** The queries behind lists: found by an index, and of the state that a license says itself. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Kysely, SqliteDialect } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LICENSE_STATES, licenseStateAt } from '#src/licensing/license-state.ts';
import { auditQuerySchema } from '#src/wire/admin/audit.ts';
import { customerQuerySchema } from '#src/wire/admin/customer.ts';
import { leaseQuerySchema } from '#src/wire/admin/lease.ts';
import { licenseQuerySchema } from '#src/wire/admin/license.ts';
import { nodeQuerySchema } from '#src/wire/admin/node.ts';
import { pageQuerySchema } from '#src/wire/admin/page.ts';
import { listAuditEvents } from '../../keyserver/audit/list-events.ts';
import type { Database } from '../../keyserver/db/schema.ts';
import { openSqlite } from '../../keyserver/db/sqlite-database.ts';
import { openStore } from '../../keyserver/db/store.ts';
import { WHOLE_ORGANIZATION } from '../../keyserver/domain/access.ts';
import { listCustomers } from '../../keyserver/domain/customers.ts';
import { deleteEndedLeases } from '../../keyserver/domain/ended-leases.ts';
import type { KeyServer } from '../../keyserver/domain/key-server.ts';
import { isInState } from '../../keyserver/domain/license-filter.ts';
import { listLicenses } from '../../keyserver/domain/licenses.ts';
import { listLeases } from '../../keyserver/domain/leases.ts';
import { listNodes } from '../../keyserver/domain/nodes.ts';
import { listLicenseNodes } from '../../keyserver/domain/plaintext-reports.ts';
import { startKeyServer } from '../../lab/keyserver.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

describe('the database', () => {
  let directory: string;
  let path: string;
  let organizationId: string;
  let licenseId: string;
  beforeAll(async () => {
    const own = await startKeyServer();
    const sold = await createSoldProduct(own);
    organizationId = (await sold.client.organization()).id;
    licenseId = (await sold.sell()).license.id;
    directory = own.dataDirectory;
    await own.stop();
    path = join(directory, 'latchkey.db');
  });
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  /** How SQLite would find the rows of every query that is made. */
  async function plansOf(work: (server: KeyServer) => Promise<unknown>): Promise<string[]> {
    const { database } = openSqlite(path);
    const recorded: string[] = [];
    const reader = new Kysely<Database>({
      dialect: new SqliteDialect({
        database: {
          prepare: (text) => {
            recorded.push(text);
            return database.prepare(text);
          },
          close: () => {
            database.close();
          },
        },
      }),
    });
    const server = {
      organizationId,
      keys: { lookupKey: Buffer.alloc(32) },
      store: { read: reader },
      clock: { nowMs: () => 1 },
    };
    await work(server as unknown as KeyServer);
    await reader.destroy();
    const asked = new DatabaseSync(path, { readOnly: true });
    try {
      return recorded.flatMap((text) =>
        asked
          .prepare(`explain query plan ${text}`)
          .all(...Array.from({ length: text.split('?').length - 1 }, () => null))
          .map(({ detail }) => String(detail)),
      );
    } finally {
      asked.close();
    }
  }

  const LEASE_FILTERS = [
    ...[{}, { license: 'l' }, { node: 'n' }, { license: 'l', node: 'n' }],
    { createdFromMs: 1 },
  ];
  const ORDERS = ['asc', 'desc'] as const;
  const scans = (plans: readonly string[]) => plans.filter((plan) => /^SCAN \w/.test(plan));
  const sorts = (plans: readonly string[]) => plans.filter((plan) => plan.includes('FOR ORDER BY'));

  it('finds leases, audit events and licenses with a tag by an index, whatever the filter', async () => {
    const found = await plansOf(async (server) => {
      for (const order of ORDERS) {
        for (const filter of LEASE_FILTERS) {
          await listLeases(server, leaseQuerySchema.parse({ ...filter, order }), WHOLE_ORGANIZATION);
        }
        await listLicenses(server, licenseQuerySchema.parse({ tag: 't', order }), WHOLE_ORGANIZATION);
        for (const filter of [
          ...[{}, { target: 't' }, { actor: 'a' }, { action: 'a' }, { outcome: 'denied' }],
          ...[{ outcome: 'done' }, { after: 5 }, { fromMs: 1, untilMs: 2 }],
        ]) {
          await listAuditEvents(server.store.read, auditQuerySchema.parse({ ...filter, order }));
        }
      }
    });
    expect(scans(found)).toEqual([]);
    expect(sorts(found)).toEqual([]);
    for (const index of [
      ...['lease_by_license_in_order', 'lease_by_node_in_order', 'license_tag_by_tag'],
      ...['audit_event_by_target', 'audit_event_by_actor', 'audit_event_by_action'],
      ...['audit_event_denied', 'audit_event_done'],
    ]) {
      expect(found.join('\n')).toContain(index);
    }
  });

  it.each(['product', 'customer'] as const)('finds the leases of one %s by its licenses', async (owner) => {
    const access = { ...WHOLE_ORGANIZATION, [`${owner}Id`]: 'x' };
    for (const order of ORDERS) {
      for (const filter of LEASE_FILTERS) {
        const query = leaseQuerySchema.parse({ ...filter, order });
        const found = await plansOf((server) => listLeases(server, query, access));
        expect(scans(found)).toEqual([]);
        expect(found).toContain(`SEARCH owned USING COVERING INDEX license_by_${owner} (${owner}_id=?)`);
        const isOfOneNode = 'node' in filter;
        // Without a filter SQLite stops in each license at the last row that is wanted, and sorts those.
        const isSorted = !isOfOneNode && !('license' in filter);
        const index = isOfOneNode
          ? 'lease_by_node_in_order (node_id'
          : 'lease_by_license_in_order (license_id';
        expect(found[0]).toContain(`SEARCH lease USING INDEX ${index}=? AND id>? AND id<?)`);
        expect(sorts(found)).toHaveLength(isSorted ? 1 : 0);
      }
    }
  });

  it('finds leases that ended long ago by an index, and what of each node is newer', async () => {
    const found = await plansOf((server) => deleteEndedLeases(server, new AbortController().signal));
    expect(scans(found)).toEqual([]);
    expect(sorts(found)).toEqual([]);
    expect(found[0]).toMatch(/^SEARCH lease USING INDEX \S+ \(id>\? AND id<\?\)$/);
    const own = found.join('\n');
    expect(own).toContain('SEARCH newer USING COVERING INDEX lease_by_node_in_order (node_id=? AND id>?)');
    expect(own).toMatch(/SEARCH other USING INDEX lease_by_node_and_end \(node_id=\? AND license_id=\? AND /);
  });

  it('finds nodes and customers in the order of their ids', async () => {
    const found = await plansOf(async (server) => {
      for (const order of ORDERS) {
        await listNodes(server, nodeQuerySchema.parse({ order }));
        for (const filter of [{}, { externalId: 'e' }]) {
          const query = customerQuerySchema.parse({ ...filter, order });
          await listCustomers(server, query, WHOLE_ORGANIZATION);
        }
      }
    });
    expect(scans(found)).toEqual([]);
    expect(sorts(found)).toEqual([]);
    for (const table of ['node', 'customer']) {
      const ofIds = new RegExp(`^SEARCH ${table} USING INDEX sqlite_autoindex_${table}_1 `);
      expect(found.filter((plan) => ofIds.test(plan)).length).toBeGreaterThanOrEqual(ORDERS.length);
    }
  });

  it('finds the last lease of each node of a license without reading all that it had', async () => {
    const found = await plansOf((server) => listLicenseNodes(server, licenseId, pageQuerySchema.parse({})));
    expect(scans(found)).toEqual([]);
    expect(sorts(found)).toEqual([]);
    expect(found).toContain('SEARCH lease USING INDEX lease_by_node_in_order (node_id=?)');
    expect(found).toContain(
      'SEARCH lease USING COVERING INDEX lease_by_node_and_end (node_id=? AND license_id=?)',
    );
  });

  it('says of every license the state that the license says itself', async () => {
    const store = await openStore(path);
    try {
      const nowMs = 1000;
      const times = [null, nowMs - 1, nowMs, nowMs + 1];
      for (const state of ['PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED'] as const) {
        for (const startsAtMs of times) {
          for (const [expiresAtMs, expiryGraceMs] of times.flatMap((time) => [
            [time, 0] as const,
            [time, 1] as const,
          ])) {
            const one = store.read
              .selectNoFrom((select) => [
                select.val(state).as('state'),
                select.val(startsAtMs).as('starts_at_ms'),
                select.val(expiresAtMs).as('expires_at_ms'),
                select.val(expiryGraceMs).as('expiry_grace_ms'),
              ])
              .as('license');
            const says: string[] = [];
            for (const asked of LICENSE_STATES) {
              const rows = await store.read
                .selectFrom(one)
                .select('license.state')
                .where(isInState(asked, nowMs))
                .execute();
              if (rows.length > 0) says.push(asked);
            }
            expect(says).toEqual([licenseStateAt({ state, startsAtMs, expiresAtMs, expiryGraceMs }, nowMs)]);
          }
        }
      }
    } finally {
      await store.close();
    }
  });
});

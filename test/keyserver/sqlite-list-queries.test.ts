/** The queries behind lists: found by an index, and of the state that a license says itself. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Kysely, SqliteDialect } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LICENSE_STATES, licenseStateAt } from '#src/licensing/license-state.ts';
import { auditQuerySchema } from '#src/wire/admin/audit.ts';
import { leaseQuerySchema } from '#src/wire/admin/lease.ts';
import { licenseQuerySchema } from '#src/wire/admin/license.ts';
import { listAuditEvents } from '../../keyserver/audit/list-events.ts';
import type { Database } from '../../keyserver/db/schema.ts';
import { openSqlite } from '../../keyserver/db/sqlite-database.ts';
import { openStore } from '../../keyserver/db/store.ts';
import { WHOLE_ORGANIZATION } from '../../keyserver/domain/access.ts';
import type { KeyServer } from '../../keyserver/domain/key-server.ts';
import { isInState } from '../../keyserver/domain/license-filter.ts';
import { listLicenses } from '../../keyserver/domain/licenses.ts';
import { listLeases } from '../../keyserver/domain/leases.ts';
import { startKeyServer } from '../../lab/keyserver.ts';

describe('the database', () => {
  let directory: string;
  let path: string;
  let recorded: string[];
  let reader: Kysely<Database>;
  beforeAll(async () => {
    const own = await startKeyServer();
    directory = own.dataDirectory;
    await own.stop();
    path = join(directory, 'latchkey.db');
    const { database } = openSqlite(path);
    recorded = [];
    reader = new Kysely<Database>({
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
  });
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  /** How SQLite would find the rows of every query that was made. */
  function plans(): string[] {
    const database = new DatabaseSync(path, { readOnly: true });
    try {
      return recorded.flatMap((text) =>
        database
          .prepare(`explain query plan ${text}`)
          .all(...Array.from({ length: text.split('?').length - 1 }, () => null))
          .map(({ detail }) => String(detail)),
      );
    } finally {
      database.close();
    }
  }

  it('finds leases, audit events and licenses with a tag by an index, whatever the filter', async () => {
    const keyServer = {
      organizationId: 'org',
      keys: { lookupKey: Buffer.alloc(32) },
      store: { read: reader },
      clock: { nowMs: () => 1 },
    } as unknown as KeyServer;
    for (const order of ['asc', 'desc'] as const) {
      for (const filter of [
        {},
        { license: 'l' },
        { node: 'n' },
        { license: 'l', node: 'n' },
        { createdFromMs: 1 },
      ]) {
        await listLeases(keyServer, leaseQuerySchema.parse({ ...filter, order }), WHOLE_ORGANIZATION);
      }
      const tagged = licenseQuerySchema.parse({ tag: 't', order });
      await listLicenses(keyServer, tagged, WHOLE_ORGANIZATION);
      for (const filter of [
        ...[{}, { target: 't' }, { actor: 'a' }, { action: 'a' }, { outcome: 'denied' }, { outcome: 'done' }],
        ...[{ after: 5 }, { fromMs: 1, untilMs: 2 }],
      ]) {
        await listAuditEvents(reader, auditQuerySchema.parse({ ...filter, order }));
      }
    }
    await reader.destroy();
    const found = plans();
    expect(found.filter((plan) => /^SCAN (?:lease|audit_event|license|license_tag)\b/.test(plan))).toEqual(
      [],
    );
    // A node has few leases, which are sorted; each index costs on every start.
    expect(found.filter((plan) => plan.includes('FOR ORDER BY')).length).toBe(2);
    for (const index of [
      'lease_by_license_in_order',
      'lease_by_node_and_license',
      'license_tag_by_tag',
      'audit_event_by_target',
      'audit_event_by_actor',
    ]) {
      expect(found.join('\n')).toContain(index);
    }
    for (const index of ['audit_event_by_action', 'audit_event_denied', 'audit_event_done']) {
      expect(found.join('\n')).toContain(index);
    }
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

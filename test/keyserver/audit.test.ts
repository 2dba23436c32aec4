import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type RawBuilder, sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readAuditFile, verifyAuditLog } from '../../cli/audit-log.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import {
  changeServerDatabase,
  databaseKind,
  openServerStore,
  removeServerDatabase,
} from '../../lab/server-database.ts';
import { adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const TAMPERED = 4;

let dataDirectory: string;
let server: TestKeyServer | null = null;

beforeAll(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'latchkey-audit-'));
  const first = await startKeyServer({ dataDirectory });
  const sold = await createSoldProduct(first);
  for (let count = 0; count < 5; count += 1) await sold.sell();
  await first.stop();
});

afterAll(async () => {
  await server?.stop();
  await removeServerDatabase(dataDirectory);
  await rm(dataDirectory, { recursive: true, force: true });
});

it('gives the history of one object, by an index', async () => {
  const running = await startKeyServer({ dataDirectory });
  const [license] = await adminClient(running).licenses();
  const target = license?.id ?? '';
  const response = await fetch(`${running.adminUrl}/v1/audit-events?target=${target}`, {
    headers: { authorization: `Bearer ${running.adminToken}` },
  });
  expect(await response.json()).toMatchObject({ items: [{ action: 'license.create', target }] });
  await running.stop();
  const plan = await planOf(
    sql`select * from audit_event where sequence > 0 and target = ${target} order by sequence limit 9`,
  );
  if (databaseKind() === 'SQLite') {
    expect(plan).toEqual(['SEARCH audit_event USING INDEX audit_event_by_target (target=? AND sequence>?)']);
  } else {
    expect(plan.join('\n')).toMatch(
      /^Limit.*\n +-> +Index Scan using audit_event_by_target .*\n +Index Cond: \(\(target = .* AND \(sequence > 0\)\)$/u,
    );
  }
});

/** How the database would answer, one step a line. */
async function planOf(query: RawBuilder<unknown>): Promise<string[]> {
  const store = await openServerStore(dataDirectory);
  try {
    return await store.write(async (writer) => {
      if (databaseKind() === 'SQLite') {
        const { rows } = await sql<{ detail: string }>`explain query plan ${query}`.execute(writer);
        return rows.map(({ detail }) => detail);
      }
      // A table of some rows is faster read whole, however good the index is.
      await sql`set local enable_seqscan = off`.execute(writer);
      const { rows } = await sql<Record<string, string>>`explain ${query}`.execute(writer);
      return rows.map((row) => row['QUERY PLAN'] ?? '');
    });
  } finally {
    await store.close();
  }
}

/** Verifies as `latchkey audit verify` does, over the API of a server on the changed file. */
async function verifyAfter(change: string, undo: string): Promise<string> {
  await changeServerDatabase(dataDirectory, 'CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM audit_event');
  await changeServerDatabase(dataDirectory, change);
  server = await startKeyServer({ dataDirectory });
  const verdict = await verifyAuditLog(adminClient(server).auditEvents()).then(
    () => 'verified',
    (error: unknown) => (error as Error).message,
  );
  await server.stop();
  server = null;
  await changeServerDatabase(dataDirectory, undo);
  return verdict;
}

const RESTORE = 'DELETE FROM audit_event; INSERT INTO audit_event SELECT * FROM kept';

describe('the audit log', () => {
  it('verifies when nobody has touched it', async () => {
    expect(await verifyAfter('SELECT 1', RESTORE)).toBe('verified');
  });

  it.each([
    ['organization_id', "'org_x'"],
    ['time_ms', 'time_ms + 1'],
    ['actor', "'system2'"],
    ['action', "'x'"],
    ['target', "'x'"],
    ['outcome', "'denied'"],
    ['code', "'DENIED_SEALED'"],
    ['auth_method', "'none'"],
    ['request_id', 'null'],
    ['detail', `'{}'`],
    ['detail', `'not JSON'`],
    ['previous_hash', `'${'0'.repeat(64)}'`],
    ['hash', `'${'0'.repeat(64)}'`],
  ])('shows a changed %s (%s)', async (column, value) => {
    const verdict = await verifyAfter(
      `UPDATE audit_event SET ${column} = ${value} WHERE sequence = ${TAMPERED}`,
      RESTORE,
    );
    expect(verdict).toMatch(new RegExp(`does not verify: event ${TAMPERED}\\b`, 'u'));
  });

  it('shows a row that was removed from the middle', async () => {
    const verdict = await verifyAfter(`DELETE FROM audit_event WHERE sequence = ${TAMPERED}`, RESTORE);
    expect(verdict).toContain(`event ${TAMPERED} is missing`);
  });

  it('shows two rows that were exchanged', async () => {
    const verdict = await verifyAfter(
      'UPDATE audit_event SET sequence = -1 WHERE sequence = 4;' +
        'UPDATE audit_event SET sequence = 4 WHERE sequence = 5;' +
        'UPDATE audit_event SET sequence = 5 WHERE sequence = -1',
      RESTORE,
    );
    expect(verdict).toMatch(/does not verify: event 4\b/u);
  });

  it('verifies as an exported file, and shows a changed line', async () => {
    server = await startKeyServer({ dataDirectory });
    const events = await auditLog(adminClient(server));
    await server.stop();
    server = null;
    const path = join(dataDirectory, 'audit.jsonl');
    await writeFile(path, events.map((event) => `${JSON.stringify(event)}\n`).join(''));
    expect(await verifyAuditLog(readAuditFile(path))).toMatchObject({ sequence: events.length });
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"action":"license.create"', '"action":"license.revoke"'));
    await expect(verifyAuditLog(readAuditFile(path))).rejects.toMatchObject({ code: 'STATE_DAMAGED' });
    await writeFile(path, `${text}{"sequence":1}\n`);
    await expect(verifyAuditLog(readAuditFile(path))).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
  });
});

/** The line to PostgreSQL is cut within a commit: nobody can know whether it is done, and a repeat settles it. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sql } from 'kysely';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { type Reader, openPostgresStore } from '../../keyserver/db/store.ts';
import { NOBODY_OBSERVES } from '../../keyserver/metrics/store-observer.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { FORGETFUL, type TestPostgres, postgresSkipReason, startPostgres } from '../../lab/postgres.ts';
import { TcpProxy } from '../../lab/tcp-proxy.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const skipReason = postgresSkipReason();
let postgres: TestPostgres;
let line: TcpProxy;
let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  if (skipReason !== null) return;
  postgres = await startPostgres({ settings: FORGETFUL });
  const url = await postgres.createDatabase('latchkey');
  line = await TcpProxy.start(postgres.address);
  const env = { ...process.env, LATCHKEY_DATABASE: url.replace(postgres.address, line.address) };
  server = await startKeyServer({ env });
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  if (skipReason !== null) return;
  await server.dispose();
  line.close();
  await postgres.dispose();
});

/** One request with a key, sent once. */
async function createCustomer(key: string): Promise<{ status: number; body: Record<string, string> }> {
  const response = await fetch(`${server.adminUrl}/v1/customers`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${server.adminToken}`,
      'content-type': 'application/json',
      'idempotency-key': key,
    },
    body: JSON.stringify({ name: key }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, string> };
}

const named = async (name: string) => (await sold.client.customers()).filter((each) => each.name === name);
const eventsOf = (events: readonly AuditEvent[], id: string | undefined) =>
  events.filter(({ target }) => target === id).map(({ action }) => action);

it.skipIf(skipReason !== null)('a change of the schema may take longer than what serves', async () => {
  const timeout = async (database: Reader) =>
    (await sql<{ statement_timeout: string }>`show statement_timeout`.execute(database)).rows[0]
      ?.statement_timeout;
  let changing: string | undefined;
  const store = await openPostgresStore(postgres.url, NOBODY_OBSERVES, async (database) => {
    changing = await timeout(database);
  });
  expect([changing, await timeout(store.read)]).toEqual(['0', '5s']);
  await store.close();
});

// PostgreSQL has the commit, or has never heard of it.
describe.skipIf(skipReason !== null).each([
  ['answered', 1],
  ['before', 0],
] as const)('a line that is cut within a commit (%s)', (moment, done) => {
  it('leaves a change unknown, and its repeat does it once', async () => {
    const key = randomUUID();
    // The use of the token is written now, and not by the next request.
    await sold.client.customers();
    line.cutAt('commit\0', moment);
    const lost = await createCustomer(key);
    expect(lost).toMatchObject({ status: 503, body: { code: 'NET_UNREACHABLE' } });
    expect(lost.body['detail']).toContain('whether it is done is unknown');
    expect(lost.body['hint']).toContain('the same Idempotency-Key');
    expect(await named(key)).toHaveLength(done);

    const repeated = await createCustomer(key);
    expect(repeated.status).toBe(201);
    expect((await createCustomer(key)).body).toEqual(repeated.body);
    expect((await named(key)).map(({ id }) => id)).toEqual([repeated.body['id']]);
    expect(eventsOf(await auditLog(sold.client), repeated.body['id'])).toEqual(['customer.create']);
    await verifyAuditLog(sold.client.auditEvents());
  });

  it('gives no key, and whoever asks again gets one', async () => {
    const node = await activateNode(server, (await sold.sell()).licenseKey);
    line.cutAt('commit\0', moment);
    await expect(node.acquire(sold.image)).rejects.toMatchObject({
      code: 'NET_UNREACHABLE',
      message: expect.stringContaining('whether it is done is unknown') as string,
    });
    const answer = await node.acquire(sold.image);
    expect(Buffer.from(await node.openImageKey(answer))).toEqual(Buffer.from(sold.image.imageKey));
    const acquired = (await auditLog(sold.client)).filter(
      ({ actor, action }) => actor === `node:${node.activation.nodeId}` && action === 'lease.acquire',
    );
    expect(acquired).toHaveLength(1 + done);
    await verifyAuditLog(sold.client.auditEvents());
    node.close();
  });
});

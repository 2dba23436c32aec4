import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WatchRevocationsResponse } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { appendAuditEvent } from '../../keyserver/audit/append-event.ts';
import { openPostgresStore } from '../../keyserver/db/store.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type TestPostgres, postgresSkipReason, startPostgres } from '../../lab/postgres.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, createSoldProduct } from '../fakes/sold-product.ts';

/** For machines that are busy with other tests. */
const PATIENTLY = { timeout: 60_000 };

const skipReason = postgresSkipReason();
let postgres: TestPostgres;
let databaseUrl: string;
let first: TestKeyServer;
/** On the same database, with the same root key. */
let second: TestKeyServer;
let sold: SoldProduct;

function startOn(url: string, dataDirectory?: string): Promise<TestKeyServer> {
  return startKeyServer({
    ...(dataDirectory === undefined ? {} : { dataDirectory }),
    env: { ...process.env, LATCHKEY_DATABASE: url },
  });
}

beforeAll(async () => {
  if (skipReason !== null) return;
  postgres = await startPostgres();
  databaseUrl = await postgres.createDatabase('latchkey');
  first = await startOn(databaseUrl);
  second = await startOn(databaseUrl, first.dataDirectory);
  sold = await createSoldProduct(first);
});

afterAll(async () => {
  if (skipReason !== null) return;
  await second.dispose();
  await first.dispose();
  await postgres.dispose();
});

async function licensedNode() {
  const { license, licenseKey } = await sold.sell();
  const node = await activateNode(first, licenseKey);
  const elsewhere = new LicensedNode(second, node.key, node.activation);
  const close = () => {
    node.close();
    elsewhere.close();
  };
  return { license, node, elsewhere, close };
}

describe.skipIf(skipReason !== null)('key servers on one PostgreSQL', () => {
  it('are one organization: what one wrote, the other opens and continues', async () => {
    const { node, elsewhere, close } = await licensedNode();
    const lease = await node.acquire(sold.image);
    const other = await elsewhere.acquire(sold.image);
    expect(Buffer.from(await node.openImageKey(lease))).toEqual(Buffer.from(sold.image.imageKey));
    expect(Buffer.from(await elsewhere.openImageKey(other))).toEqual(Buffer.from(sold.image.imageKey));
    close();
  });

  it('create once when both are asked with one Idempotency-Key', async () => {
    const key = randomUUID();
    const ask = async (server: TestKeyServer): Promise<string> => {
      const response = await fetch(`${server.adminUrl}/v1/licenses`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${first.adminToken}`,
          'content-type': 'application/json',
          'idempotency-key': key,
        },
        body: JSON.stringify({ customer: sold.customerId, product: sold.productCode }),
      });
      expect(response.status).toBe(201);
      return response.text();
    };
    const answers = await Promise.all([first, second, first, second].map(ask));
    expect(new Set(answers).size).toBe(1);
  });

  it('refuse everywhere what one of them has acknowledged as revoked', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { license, elsewhere, close } = await licensedNode();
      await elsewhere.acquire(sold.image);
      await sold.client.changeLicense(license.id, 'revoke');
      await expect(elsewhere.acquire(sold.image)).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
      close();
    }
  });

  it('wake the nodes that watch at the others', async () => {
    const { license, elsewhere, close } = await licensedNode();
    const { revision } = await sold.client.organization();
    const stream = elsewhere.client.watchRevocations({ afterRevision: revision, position: undefined });
    stream.on('error', () => undefined);
    const heard = new Promise<void>((resolve) => {
      stream.on('data', ({ event }: WatchRevocationsResponse) => {
        if (event?.$case === 'licenseChange' && event.value.licenseId === license.id) resolve();
      });
    });
    await new Promise<void>((resolve) =>
      stream.once('data', () => {
        resolve();
      }),
    );
    await sold.client.changeLicense(license.id, 'revoke');
    await heard;
    stream.cancel();
    close();
  });

  it.each([
    ['ban', 'DENIED_NODE_BANNED'],
    ['retire', 'DENIED_NODE_RETIRED'],
  ] as const)('end the stream at the other with a %s', async (action, code) => {
    const { node, elsewhere, close } = await licensedNode();
    const stream = elsewhere.client.watchRevocations({ afterRevision: 0, position: undefined });
    const ended = new Promise<unknown>((resolve) => stream.once('error', resolve));
    await new Promise<void>((resolve) => {
      stream.on('data', () => {
        resolve();
      });
    });
    await sold.client.changeNode(node.activation.nodeId, action);
    expect(fromGrpcError(await ended, 'key server')).toMatchObject({ code });
    await expect(elsewhere.acquire(sold.image)).rejects.toMatchObject({ code });
    close();
  });

  it('count one revision without gaps, whoever writes', async () => {
    const other = adminClient(second, first.adminToken);
    const before = (await sold.client.organization()).revision;
    const clients = [sold.client, other];
    await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        clients[index % 2]!.createCustomer({ name: `customer ${index}` }),
      ),
    );
    expect((await other.organization()).revision).toBe(before + 20);
  });
});

async function probe(path: string): Promise<[number, unknown]> {
  const answer = await fetch(`${first.adminUrl}/${path}`);
  return [answer.status, await answer.json()];
}

describe.skipIf(skipReason !== null)('a key server whose PostgreSQL is killed under load', () => {
  it('refuses quickly, comes back by itself and has kept every acknowledged write', async () => {
    const acknowledged: string[] = [];
    const failures: unknown[] = [];
    let stopped = false;
    const load = async (worker: number) => {
      for (let index = 0; !stopped; index += 1) {
        try {
          acknowledged.push((await sold.client.createCustomer({ name: `load ${worker} ${index}` })).id);
        } catch (error) {
          failures.push(error);
        }
      }
    };
    const workers = [0, 1, 2, 3].map(load);
    await expect.poll(() => acknowledged.length, PATIENTLY).toBeGreaterThan(50);
    expect(await probe('readyz')).toEqual([200, { status: 'ready' }]);
    await postgres.kill();
    expect(await probe('readyz')).toEqual([503, { status: 'not-ready', reason: 'NET_UNREACHABLE' }]);
    expect(await probe('healthz')).toEqual([200, { status: 'ok' }]);
    await expect.poll(() => failures.length, PATIENTLY).toBeGreaterThan(0);
    expect(failures[0]).toMatchObject({ code: 'NET_UNREACHABLE' });
    await postgres.restart();
    const atRestart = acknowledged.length;
    await expect.poll(() => acknowledged.length, PATIENTLY).toBeGreaterThan(atRestart + 20);
    expect(await probe('readyz')).toEqual([200, { status: 'ready' }]);
    stopped = true;
    await Promise.all(workers);

    const database = new Client({ connectionString: databaseUrl });
    await database.connect();
    const { rows } = await database.query<{ id: string }>('select id from customer');
    await database.end();
    const kept = new Set(rows.map(({ id }) => id));
    expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
  });

  it('still releases nothing under a license that was revoked', async () => {
    const { license, elsewhere, close } = await licensedNode();
    await sold.client.changeLicense(license.id, 'revoke');
    await postgres.kill();
    await postgres.restart();
    await expect(elsewhere.acquire(sold.image)).rejects.toMatchObject({
      code: expect.stringMatching(/^(DENIED_LICENSE_REVOKED|NET_UNREACHABLE)$/) as string,
    });
    await expect
      .poll(() => elsewhere.acquire(sold.image).catch((error: unknown) => error), PATIENTLY)
      .toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
    close();
  });
});

describe.skipIf(skipReason !== null)('two stores on one PostgreSQL', () => {
  it('hear what the other announces, and after a lost connection that anything may have changed', async () => {
    const url = await postgres.createDatabase('announcements');
    const [speaker, hearer] = [await openPostgresStore(url), await openPostgresStore(url)];
    const heard: (readonly string[] | null)[] = [];
    hearer.onAnnounced((nodeIds) => heard.push(nodeIds));
    await expect.poll(() => heard, PATIENTLY).toEqual([null]);
    speaker.announce(['node-1', 'node-2']);
    await expect.poll(() => heard, PATIENTLY).toEqual([null, ['node-1', 'node-2']]);
    speaker.announce(Array.from({ length: 1000 }, (_, index) => `node-${index}`));
    await expect.poll(() => heard.slice(2), PATIENTLY).toEqual([null]);
    await postgres.kill();
    await postgres.restart();
    await expect.poll(() => heard.slice(3), PATIENTLY).toEqual([null]);
    await Promise.all([speaker.close(), hearer.close()]);
  });

  it('close also while they are only about to listen', async () => {
    const url = await postgres.createDatabase('closing');
    for (let round = 0; round < 3; round += 1) {
      const store = await openPostgresStore(url);
      store.onAnnounced(() => undefined);
      await store.close();
    }
  });

  it('write one after the other, though each reads before it writes', async () => {
    const url = await postgres.createDatabase('writers');
    // A transaction that keeps to what it saw first would not see what it has waited for.
    const database = new Client({ connectionString: url });
    await database.connect();
    await database.query("alter database writers set default_transaction_isolation to 'repeatable read'");
    await database.end();
    const stores = [await openPostgresStore(url), await openPostgresStore(url)];
    const nowMs = Date.now();
    await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        stores[index % 2]!.write((writer) =>
          appendAuditEvent(writer, 'org-1', nowMs, {
            actor: 'system',
            action: 'product.create',
            target: `${index}`,
            outcome: 'done',
          }),
        ),
      ),
    );
    const rows = await stores[0]!.read
      .selectFrom('audit_event')
      .select('sequence')
      .orderBy('sequence')
      .execute();
    expect(rows.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
    await Promise.all(stores.map((store) => store.close()));
  });

  it('may both be the first to open it', async () => {
    const url = await postgres.createDatabase('together');
    const stores = await Promise.all([openPostgresStore(url), openPostgresStore(url)]);
    await Promise.all(stores.map((store) => store.close()));
  });
});

/** Two key servers on a PostgreSQL with a standby that confirms every commit; the primary dies under load. */
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { hasPassword, hostUrls, readDatabaseUrl } from '../../keyserver/database-url.ts';
import { openPostgresStore } from '../../keyserver/db/store.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type TestPostgres, postgresSkipReason, startPostgres, startStandby } from '../../lab/postgres.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const PATIENTLY = { timeout: 90_000 };

const skipReason = postgresSkipReason();
let primary: TestPostgres;
let standby: TestPostgres;
let databaseUrl: string;
let first: TestKeyServer;
let second: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  if (skipReason !== null) return;
  primary = await startPostgres();
  await primary.createDatabase('latchkey');
  standby = await startStandby(primary);
  // From here on a commit is done when both have it.
  await primary.query("alter system set synchronous_standby_names = '*'");
  await primary.query('select pg_reload_conf()');
  // The standby comes first, as an operator could have written it.
  databaseUrl = `postgres://latchkey@${standby.address},${primary.address}/latchkey?target_session_attrs=read-write`;
  const env = { ...process.env, LATCHKEY_DATABASE: databaseUrl };
  first = await startKeyServer({ env });
  second = await startKeyServer({ env, dataDirectory: first.dataDirectory });
  sold = await createSoldProduct(first);
});

afterAll(async () => {
  if (skipReason !== null) return;
  await second.dispose();
  await first.dispose();
  await standby.dispose();
  await primary.dispose();
});

interface Grants {
  /** Leases that a node has got. */
  readonly leaseTokens: string[];
  readonly customers: string[];
  readonly failures: unknown[];
  stop(): Promise<void>;
}

function startLoad(nodes: readonly LicensedNode[]): Grants {
  const grants = { leaseTokens: [] as string[], customers: [] as string[], failures: [] as unknown[] };
  let stopped = false;
  const repeat = async (work: () => Promise<void>) => {
    while (!stopped) await work().catch((error: unknown) => grants.failures.push(error));
  };
  const acquiring = nodes.map((node) =>
    repeat(async () => {
      grants.leaseTokens.push((await node.acquire(sold.image)).lease);
    }),
  );
  const clients = [adminClient(first), adminClient(second)];
  const selling = clients.map((client, index) =>
    repeat(async () => {
      const name = `load ${index} ${grants.customers.length} ${grants.failures.length}`;
      grants.customers.push((await client.createCustomer({ name })).id);
    }),
  );
  const stop = async () => {
    stopped = true;
    await Promise.all([...acquiring, ...selling]);
  };
  return { ...grants, stop };
}

async function rows(column: 'lease' | 'customer'): Promise<Set<string>> {
  const store = await openPostgresStore(databaseUrl);
  const found = await store.read.selectFrom(column).select('id').execute();
  await store.close();
  return new Set(found.map(({ id }) => id));
}

function leaseIdOf(token: string): string {
  const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
    leaseId: string;
  };
  return claims.leaseId;
}

describe.skipIf(skipReason !== null)('a PostgreSQL that fails over under load', () => {
  it('loses nothing that was acknowledged, and gives nothing that was revoked', async () => {
    const [kept, revoked] = [await sold.sell(), await sold.sell()];
    const node = await activateNode(first, kept.licenseKey);
    const elsewhere = new LicensedNode(second, node.key, node.activation);
    const banned = await activateNode(first, revoked.licenseKey);
    await banned.acquire(sold.image);
    const load = startLoad([node, elsewhere]);
    await expect.poll(() => load.leaseTokens.length, PATIENTLY).toBeGreaterThan(20);
    await sold.client.changeLicense(revoked.license.id, 'revoke');

    await primary.kill();
    await expect.poll(() => load.failures.length, PATIENTLY).toBeGreaterThan(0);
    await standby.query('select pg_promote()');
    const atFailover = load.leaseTokens.length;
    await expect.poll(() => load.leaseTokens.length, PATIENTLY).toBeGreaterThan(atFailover + 20);
    const refusal = async () =>
      banned.acquire(sold.image).then(
        () => 'granted',
        (error: unknown) => (error as { code: string }).code,
      );
    // It may still find no database, but it is never granted.
    await expect
      .poll(async () => {
        const answer = await refusal();
        expect(answer).not.toBe('granted');
        return answer;
      }, PATIENTLY)
      .toBe('DENIED_LICENSE_REVOKED');
    await load.stop();

    const leases = await rows('lease');
    expect(load.leaseTokens.map(leaseIdOf).filter((id) => !leases.has(id))).toEqual([]);
    const customers = await rows('customer');
    expect(load.customers.filter((id) => !customers.has(id))).toEqual([]);
    for (const { code } of load.failures as { code: string }[]) {
      expect(code).toMatch(/^(?:NET_UNREACHABLE|NET_TIMEOUT)$/u);
    }
    const head = await verifyAuditLog(sold.client.auditEvents());
    const told = (await auditLog(sold.client)).filter(({ action }) => action === 'customer.create');
    expect(told.length).toBeGreaterThanOrEqual(load.customers.length);
    expect(head).toMatchObject({ sequence: (await auditLog(sold.client)).length });
    for (const each of [node, elsewhere, banned]) each.close();
  });

  it('stays with the promoted server when the old primary comes back as if nothing had happened', async () => {
    const store = await openPostgresStore(databaseUrl);
    const before = await rows('customer');
    await primary.restart();
    await primary.query('alter system reset synchronous_standby_names');
    await primary.query('select pg_reload_conf()');
    await standby.kill();
    // The old one is the only one there is, and it does not know what was acknowledged since.
    await expect(
      store.write((writer) => writer.selectFrom('customer').select('id').execute()),
    ).rejects.toMatchObject({
      code: 'NET_UNREACHABLE',
    });
    await expect(sold.client.createCustomer({ name: 'on the wrong side' })).rejects.toMatchObject({
      code: 'NET_UNREACHABLE',
    });
    await standby.restart();
    const created = async () =>
      sold.client.createCustomer({ name: `right ${Math.random()}` }).then(
        ({ id }) => id,
        () => '',
      );
    await expect.poll(created, PATIENTLY).toMatch(/^cus/u);
    const after = await rows('customer');
    expect([...before].filter((id) => !after.has(id))).toEqual([]);
    await store.close();
  });
});

describe.skipIf(skipReason !== null)('a primary whose standby is away', () => {
  /** PostgreSQL itself calls such a commit done once its wait is cut short, and only warns. */
  const CUT_SHORT = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
  let lonely: TestPostgres;
  let url: string;
  beforeAll(async () => {
    if (skipReason !== null) return;
    lonely = await startPostgres();
    url = await lonely.createDatabase('lonely');
  });
  afterAll(async () => {
    if (skipReason === null) await lonely.dispose();
  });

  const configure = async (change: string) => {
    await lonely.query(`alter system ${change}`);
    await lonely.query('select pg_reload_conf()');
  };

  /** A setting counts once PostgreSQL's own processes have read it, some time after it is made: only then commits wait. */
  const untilCommitsWait = async () => {
    const [writer, watcher] = [new Client({ connectionString: url }), new Client({ connectionString: url })];
    await Promise.all([writer.connect(), watcher.connect()]);
    for (let hasWaited = false; !hasWaited;) {
      const commit = { isDone: false };
      const probe = writer
        .query("set synchronous_commit = on; select pg_logical_emit_message(true, 'probe', '')")
        .finally(() => (commit.isDone = true));
      while (!commit.isDone) hasWaited = ((await watcher.query(CUT_SHORT)).rowCount ?? 0) > 0 || hasWaited;
      await probe;
    }
    await Promise.all([writer.end(), watcher.end()]);
  };

  // With two of these PostgreSQL would not even wait.
  it.each(['on', 'local', 'off'])('acknowledges nothing that a failover would lose (%s)', async (setting) => {
    await configure(`set synchronous_commit = '${setting}'`);
    const store = await openPostgresStore(url);
    const write = (nonce: string) =>
      store.write((writer) =>
        writer
          .insertInto('used_challenge')
          .values({ nonce: `${nonce} ${setting}`, expires_at_ms: Date.now() })
          .execute(),
      );
    try {
      await write('before');
      await configure("set synchronous_standby_names = '*'");
      await untilCommitsWait();
      let answer: unknown = null;
      void write('alone').then(
        () => (answer = 'acknowledged'),
        (error: unknown) => (answer = error),
      );
      await expect
        .poll(async () => {
          await lonely.query(CUT_SHORT);
          return answer;
        }, PATIENTLY)
        .not.toBe(null);
      expect(answer).toMatchObject({
        code: 'NET_UNREACHABLE',
        message: expect.stringContaining('standby') as string,
      });
      await configure('reset synchronous_standby_names');
      await write('after');
    } finally {
      await configure('reset synchronous_standby_names');
      await store.close();
    }
  });
});

describe('a URL of several servers', () => {
  it('is one URL for each', () => {
    expect(hostUrls('postgres://u:p%40@a:1,[::1]:2,c/db?x=1')).toEqual([
      'postgres://u:p%40@a:1/db?x=1',
      'postgres://u:p%40@[::1]:2/db?x=1',
      'postgres://u:p%40@c/db?x=1',
    ]);
    expect(hostUrls('/etc/latchkey/a,b')).toEqual(['/etc/latchkey/a,b']);
  });

  it('is not given with a password on the command line either', () => {
    expect(hasPassword('postgres://u:secret@a:1,b:2/db')).toBe(true);
    expect(hasPassword('postgres://a:1,b:2/db?password=secret')).toBe(true);
    expect(hasPassword('postgres://u@a:1,b:2/db')).toBe(false);
  });

  it.each([
    'postgres://u@a:1,/db',
    'postgres://u@a,b:x/db',
    'postgres://u@a,b/db?target_session_attrs=any',
    'postgres://u@a,b/db?target_session_attrs=standby',
  ])('is refused: %s', async (url) => {
    await expect(readDatabaseUrl(url)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});

/** A key server that is told to stop, beside another on the same database, under load. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseArguments } from '../../keyserver/arguments.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { FORGETFUL, type TestPostgres, postgresSkipReason, startPostgres } from '../../lab/postgres.ts';
import type { AdminClient } from '../../cli/admin-client.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, createSoldProduct } from '../fakes/sold-product.ts';

const PATIENTLY = { timeout: 60_000 };
const INTERRUPTED_STATUS = 130;
/** Long enough to ask something in, on a machine that is busy. */
const DRAIN_SECONDS = '10';

const skipReason = postgresSkipReason();
let postgres: TestPostgres;
let leaving: TestKeyServer;
let staying: TestKeyServer;
let sold: SoldProduct;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  if (skipReason !== null) return;
  postgres = await startPostgres({ settings: FORGETFUL });
  env = { ...process.env, LATCHKEY_DATABASE: await postgres.createDatabase('latchkey') };
  leaving = await startKeyServer({ env, args: ['--drain-seconds', DRAIN_SECONDS] });
  staying = await startKeyServer({ env, dataDirectory: leaving.dataDirectory });
  sold = await createSoldProduct(leaving);
});

afterAll(async () => {
  if (skipReason !== null) return;
  await staying.dispose();
  await leaving.dispose();
  await postgres.dispose();
});

async function readiness(server: TestKeyServer): Promise<unknown> {
  const answer = await fetch(`${server.adminUrl}/readyz`, { headers: { connection: 'close' } });
  return [answer.status, await answer.json()];
}

interface Load {
  readonly acknowledged: string[];
  /** What the one that leaves did not answer; the other one did. */
  readonly healed: unknown[];
  /** What neither answered. */
  readonly lost: unknown[];
  stop(): Promise<void>;
}

/** Asks the one that leaves again and again, and what it does not answer the other. */
function startLoad(asks: readonly ((from: 'leaving' | 'staying', index: number) => Promise<string>)[]): Load {
  const [acknowledged, healed, lost]: [string[], unknown[], unknown[]] = [[], [], []];
  let stopped = false;
  const workers = asks.map(async (ask) => {
    for (let index = 0; !stopped; index += 1) {
      try {
        acknowledged.push(await ask('leaving', index));
      } catch (error) {
        await ask('staying', index).then(
          (answer) => {
            acknowledged.push(answer);
            healed.push(error);
          },
          (again: unknown) => lost.push(again),
        );
      }
    }
  });
  const stop = async () => {
    stopped = true;
    await Promise.all(workers);
  };
  return { acknowledged, healed, lost, stop };
}

function createsCustomers(name: string, clients: Record<'leaving' | 'staying', AdminClient>) {
  return async (from: 'leaving' | 'staying', index: number) =>
    (await clients[from].createCustomer({ name: `${name} ${index} ${from}` })).id;
}

describe.skipIf(skipReason !== null)('a key server that is told to stop', () => {
  it('says so, serves on for a while, finishes what is under way, and sends the nodes to the other one', async () => {
    const { licenseKey } = await sold.sell();
    const node = await activateNode(leaving, licenseKey);
    const elsewhere = new LicensedNode(staying, node.key, node.activation);
    const nodes = { leaving: node, staying: elsewhere };
    const clients = { leaving: adminClient(leaving), staying: adminClient(staying) };
    const acquire = async (from: 'leaving' | 'staying') => (await nodes[from].acquire(sold.image)).lease;
    const load = startLoad([
      createsCustomers('one', clients),
      createsCustomers('two', clients),
      acquire,
      acquire,
    ]);
    const watch = node.client.watchRevocations({ afterRevision: 0, position: undefined });
    const watchEnded = new Promise<unknown>((resolve) => watch.once('error', resolve));
    await new Promise<void>((resolve) => {
      watch.once('data', () => {
        resolve();
      });
    });
    await expect.poll(() => load.acknowledged.length, PATIENTLY).toBeGreaterThan(20);
    expect(await readiness(leaving)).toEqual([200, { status: 'ready' }]);

    const status = leaving.stop();
    await expect
      .poll(() => readiness(leaving), PATIENTLY)
      .toEqual([503, { status: 'not-ready', reason: 'STOPPING' }]);
    // Who has not heard of it yet is served.
    await node.acquire(sold.image);
    await adminClient(leaving).createCustomer({ name: 'late' });
    expect(load.healed).toEqual([]);
    expect(await readiness(staying)).toEqual([200, { status: 'ready' }]);

    expect(await status).toBe(0);
    expect(String(await watchEnded)).toContain('stopping');
    const again = elsewhere.client.watchRevocations({ afterRevision: 0, position: undefined });
    again.on('error', () => undefined);
    await new Promise<void>((resolve) => {
      again.once('data', () => {
        resolve();
      });
    });
    again.cancel();
    const before = load.acknowledged.length;
    await expect.poll(() => load.acknowledged.length, PATIENTLY).toBeGreaterThan(before + 20);
    await load.stop();
    expect(load.lost).toEqual([]);
    expect(load.healed.length).toBeGreaterThan(0);
    const kept = new Set((await clients.staying.customers()).map(({ id }) => id));
    const customers = load.acknowledged.filter((text) => text.startsWith('cus'));
    expect(customers.length).toBeGreaterThan(20);
    expect(customers.filter((id) => !kept.has(id))).toEqual([]);
    node.close();
    elsewhere.close();
  });

  it('stops at once when it is told a second time', async () => {
    const patient = await startKeyServer({
      env,
      dataDirectory: leaving.dataDirectory,
      args: ['--drain-seconds', '300'],
    });
    process.kill(patient.pid, 'SIGTERM');
    await expect.poll(() => readiness(patient), PATIENTLY).toMatchObject([503, {}]);
    expect(await patient.stop()).toBe(INTERRUPTED_STATUS);
  });
});

it.each(['-1', '301', '1.5', 'x', ''])('--drain-seconds is not %j', (seconds) => {
  expect(() => parseArguments([`--drain-seconds=${seconds}`])).toThrow(/--drain-seconds/u);
});

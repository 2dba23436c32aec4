/**
 * A key server with a large database: how soon it is ready, and how long an administrator waits for lists. What bounds
 * it, in the same run: the start of an empty server, and a request that reads one row.
 *
 *   node bench/large-database.ts [licenses] [nodes] [audit events]
 */
import { join } from 'node:path';
import { type KeyServerOptions, type TestKeyServer, startKeyServer } from '../lab/keyserver.ts';
import { activateNode } from '../test/fakes/licensed-node.ts';
import { createSoldProduct } from '../test/fakes/sold-product.ts';
import { type Copies, copyRows } from './copied-rows.ts';
import { quantile } from './measured-calls.ts';
import { median } from './statistics.ts';
import { UNLIMITED } from './unlimited.ts';

const LICENSES = Number(process.argv[2] ?? 100_000);
const NODES = Number(process.argv[3] ?? 10_000);
const AUDIT_EVENTS = Number(process.argv[4] ?? 1_000_000);
const LEASES = 10 * NODES;
const STARTS = 5;
const REQUESTS = 40;

let server = await startKeyServer({ args: UNLIMITED });
try {
  const sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  const node = await activateNode(server, licenseKey);
  await node.acquire(sold.image);
  node.close();
  const { dataDirectory } = server;
  const nodeId = node.activation.nodeId;
  await server.stop();
  const fill = (copies: readonly Copies[]) => {
    copyRows(join(dataDirectory, 'latchkey.db'), copies);
  };
  const empty = await startTimeMs(dataDirectory);
  fill(licenses(license.id));
  await reportStart(`ready with ${LICENSES} licenses`, '(goal: 1000 ms)', dataDirectory, empty);
  fill([...fleet(license.id, nodeId), ...auditEvents()]);
  // The first start puts the new events under a checkpoint.
  await startTimeMs(dataDirectory, 1);
  await reportStart(`ready with ${AUDIT_EVENTS} audit events too`, '', dataDirectory, empty);
  server = await startKeyServer({ args: UNLIMITED, dataDirectory });
  await reportLists(server);
} finally {
  await server.dispose();
}

function licenses(licenseId: string): Copies[] {
  const columns = {
    id: "printf('lic_%032x', n)",
    key_digest: "printf('%064x', n)",
    revision: 'n',
  };
  return [{ table: 'license', count: LICENSES, where: `id = '${licenseId}'`, columns }];
}

function fleet(licenseId: string, nodeId: string): Copies[] {
  const id = (prefix: string, every: number) => `printf('${prefix}_%032x', n % ${every})`;
  return [
    {
      table: 'node',
      count: NODES,
      where: `id = '${nodeId}'`,
      columns: { id: id('node', NODES), key_thumbprint: "printf('%043x', n)" },
    },
    {
      table: 'license_node',
      count: NODES,
      where: `node_id = '${nodeId}'`,
      columns: { node_id: id('node', NODES), license_id: "printf('lic_%032x', n)" },
    },
    {
      table: 'lease',
      count: LEASES,
      where: `node_id = '${nodeId}' and license_id = '${licenseId}'`,
      columns: {
        id: "printf('lease_%032x', n)",
        node_id: id('node', NODES),
        license_id: `printf('lic_%032x', 1 + n % ${NODES})`,
        nonce: "printf('%032x', n)",
      },
    },
  ];
}

/** Their hashes chain nothing: what is measured reads them and does not verify them. */
function auditEvents(): Copies[] {
  const last = '(select max(sequence) from audit_event)';
  const columns = {
    sequence: `${last} + n`,
    target: `printf('node_%032x', n % ${NODES})`,
    hash: "printf('%064x', n)",
    previous_hash: "printf('%064x', n - 1)",
  };
  return [{ table: 'audit_event', count: AUDIT_EVENTS, where: `sequence = ${last}`, columns }];
}

async function startTimeMs(dataDirectory: string, starts = STARTS): Promise<number> {
  const times: number[] = [];
  const options: KeyServerOptions = { args: UNLIMITED, dataDirectory };
  for (let start = 0; start < starts; start += 1) {
    const startedMs = performance.now();
    const started = await startKeyServer(options);
    times.push(performance.now() - startedMs);
    await started.stop();
  }
  return median(times);
}

async function reportStart(name: string, goal: string, dataDirectory: string, empty: number): Promise<void> {
  const time = await startTimeMs(dataDirectory);
  process.stdout.write(
    `${name.padEnd(34)} ${time.toFixed(0)} ms ${goal}; bounded by the start of an empty server: ${empty.toFixed(0)} ms, ratio ${(time / empty).toFixed(2)}\n`,
  );
}

async function reportLists(to: TestKeyServer): Promise<void> {
  const one = await requestTimes(to, '/v1/organization');
  process.stdout.write(`${'a request that reads one row'.padEnd(48)} ${format(one)}\n`);
  const lists = [
    '/v1/licenses?order=asc',
    '/v1/nodes?order=desc',
    '/v1/leases?order=desc',
    '/v1/audit-events?order=asc',
    `/v1/audit-events?target=node_${'0'.repeat(31)}7`,
    `/v1/audit-events?after=${AUDIT_EVENTS / 2}`,
  ];
  for (const list of lists) {
    for (const limit of [100, 1000]) {
      const path = `${list}&limit=${limit}`;
      const cursor = await secondPage(to, path);
      const times = await requestTimes(to, cursor === null ? path : `${path}&after=${cursor}`);
      const name = `${list.replace(/_0+/, '_0...')}, ${limit} rows`;
      process.stdout.write(`${name.padEnd(48)} ${format(times)} (goal: 50 ms)\n`);
    }
  }
}

/** The cursor of the page after the first one; null when there is none, or it was asked for already. */
async function secondPage(to: TestKeyServer, path: string): Promise<string | null> {
  if (path.includes('after=')) return null;
  const { nextAfter } = JSON.parse(await request(to, path)) as { nextAfter: string | null };
  return nextAfter;
}

async function requestTimes(to: TestKeyServer, path: string): Promise<number[]> {
  const times: number[] = [];
  for (let count = 0; count < REQUESTS; count += 1) {
    const startedMs = performance.now();
    await request(to, path);
    times.push(performance.now() - startedMs);
  }
  return times;
}

async function request({ adminUrl, adminToken }: TestKeyServer, path: string): Promise<string> {
  const answer = await fetch(`${adminUrl}${path}`, { headers: { authorization: `Bearer ${adminToken}` } });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${text}`);
  return text;
}

function format(times: readonly number[]): string {
  return `p50 ${quantile(times, 0.5).toFixed(1)} ms  p99 ${quantile(times, 0.99).toFixed(1)} ms`;
}

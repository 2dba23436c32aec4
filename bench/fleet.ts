/**
 * A fleet of nodes: how soon each connected one hears of a revocation, and how all of them come back after an outage.
 * What bounds it, in the same run: a gRPC server that sends without asking a database, and TLS handshakes.
 *
 *   node bench/fleet.ts [nodes] [watchers]
 */
import { X509Certificate } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, credentials } from '@grpc/grpc-js';
import { EnrollmentClient } from '#src/wire/generated/latchkey/node.ts';
import { callUnary } from '#src/wire/unary.ts';
import { type TestKeyServer, startKeyServer } from '../lab/keyserver.ts';
import { createNodeKey } from '../test/fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../test/fakes/sold-product.ts';
import { FleetNode, type FleetServer } from './fleet-node.ts';
import { startIdleServer } from './idle-grpc-server.ts';
import { type TlsIdentity, handshakeCpuMicroseconds } from './machine-limits.ts';
import { cpuMicroseconds, quantile } from './measured-calls.ts';
import { UNLIMITED } from './unlimited.ts';

const IN_FLIGHT = 16;
const CHANGES = 10;
/** As agents do it (shim/agent): they have asked every 15 s at last, and give up a call after twice 5 s. */
const LAST_PAUSE_MS = 15_000;
const FIRST_PAUSE_MS = 500;
const PATIENCE_MS = 10_000;

const nodeCount = Number(process.argv[2] ?? 10_000);
const watcherCount = Number(process.argv[3] ?? 1000);

let server = await startKeyServer({ args: UNLIMITED });
const nodes: FleetNode[] = [];
try {
  const sold = await createSoldProduct(server);
  const watched = await sold.sell({ maxNodes: watcherCount });
  const others = await sold.sell({ maxNodes: nodeCount });
  const identities = [
    ...(await enrol(watched.licenseKey, watcherCount)),
    ...(await enrol(others.licenseKey, nodeCount - watcherCount)),
  ];
  nodes.push(...identities.map((identity) => new FleetNode(identity)));
  const watchers = nodes.slice(0, watcherCount);
  await connectAll(watchers, server);
  await measureRevocations(watchers, sold, watched.license.id);
  for (const node of watchers) node.close();
  await measureWithoutWork(identities.slice(0, watcherCount));
  await server.kill();
  const startedMs = performance.now();
  server = await startKeyServer({ args: UNLIMITED, dataDirectory: server.dataDirectory });
  const readyMs = performance.now() - startedMs;
  await measureReturn(nodes, server, readyMs);
  await reportHandshakeBound(identities);
} finally {
  for (const node of nodes) node.close();
  await server.dispose();
}

/** Enrols new nodes, each with its own key, as a site does. */
async function enrol(licenseKey: string, count: number): Promise<TlsIdentity[]> {
  const client = new EnrollmentClient(
    server.enrollAddress,
    credentials.createSsl(Buffer.from(server.authorityPem)),
  );
  const identities: TlsIdentity[] = [];
  await inParallel(count, async (index) => {
    const key = await createNodeKey();
    const { certificateDer } = await callUnary(
      client.activate.bind(client),
      {
        ...{ licenseKey, joinToken: '', certificateRequestDer: key.requestDer, installation: '' },
        ...{ nodeName: `node-${index}`, nodeTimeMs: Date.now() },
      },
      new Metadata(),
      {},
    );
    identities.push({
      certificatePem: new X509Certificate(certificateDer).toString(),
      keyPem: key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    });
  });
  client.close();
  return identities;
}

async function inParallel(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let begun = 0;
  const worker = async () => {
    for (let index = begun++; index < count; index = begun++) await work(index);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

function connectAll(connecting: readonly FleetNode[], to: FleetServer): Promise<void> {
  return inParallel(connecting.length, async (index) => connecting[index]?.comeBack(to, PATIENCE_MS));
}

/** From the question of the administrator to each node. */
async function measureRevocations(
  watchers: readonly FleetNode[],
  sold: SoldProduct,
  licenseId: string,
): Promise<void> {
  const cpuBefore = cpuMicroseconds(server.pid);
  const latencies = await latenciesOf(watchers, async (change) => {
    await sold.client.changeLicense(licenseId, change % 2 === 0 ? 'suspend' : 'reinstate');
  });
  const cpu = (cpuMicroseconds(server.pid) - cpuBefore) / latencies.length;
  report(
    `revocation to ${watchers.length} nodes`,
    latencies,
    `(goal: p99 under 500 ms), server CPU ${cpu.toFixed(0)} us/node`,
  );
}

async function measureWithoutWork(identities: readonly TlsIdentity[]): Promise<void> {
  const idle = await startIdleServer();
  const watchers = identities.map((identity) => new FleetNode(identity));
  try {
    await connectAll(watchers, idle);
    const latencies = await latenciesOf(watchers, async () => {
      idle.changeAll();
      return Promise.resolve();
    });
    report('bounded by gRPC alone', latencies, '');
  } finally {
    for (const node of watchers) node.close();
    idle.stop();
  }
}

async function latenciesOf(
  watchers: readonly FleetNode[],
  change: (index: number) => Promise<void>,
): Promise<number[]> {
  const latencies: number[] = [];
  for (let index = 0; index < CHANGES; index += 1) {
    const startedMs = performance.now();
    const told = watchers.map(async (node) => {
      await node.nextChange();
      latencies.push(performance.now() - startedMs);
    });
    await change(index);
    await Promise.all(told);
  }
  return latencies;
}

function report(name: string, latencies: readonly number[], more: string): void {
  process.stdout.write(
    `${name.padEnd(26)} p50 ${quantile(latencies, 0.5).toFixed(0)} ms  p99 ${quantile(latencies, 0.99).toFixed(0)} ms  ${more}\n`,
  );
}

/** Everybody has noticed the outage, and comes at the end of its own pause. */
async function measureReturn(all: readonly FleetNode[], to: TestKeyServer, readyMs: number): Promise<void> {
  const cpuBefore = cpuMicroseconds(to.pid);
  const startedMs = performance.now();
  const servedMs: number[] = [];
  let failures = 0;
  await Promise.all(
    all.map(async (node) => {
      await sleep(Math.random() * LAST_PAUSE_MS);
      for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LAST_PAUSE_MS, 2 * pauseMs)) {
        try {
          await node.comeBack(to, PATIENCE_MS);
          break;
        } catch {
          failures += 1;
          await sleep(pauseMs * (0.5 + Math.random()));
        }
      }
      servedMs.push(performance.now() - startedMs);
    }),
  );
  const cpu = (cpuMicroseconds(to.pid) - cpuBefore) / all.length;
  process.stdout.write(
    `${all.length} nodes back after an outage: half of them in ${seconds(quantile(servedMs, 0.5))} s, all in ${seconds(quantile(servedMs, 1))} s ` +
      `(goal: 60 s), ${failures} attempts more than one each, server CPU ${cpu.toFixed(0)} us/node; ready again after ${seconds(readyMs)} s\n`,
  );
}

async function reportHandshakeBound([identity]: readonly TlsIdentity[]): Promise<void> {
  if (identity === undefined) return;
  const cpu = await handshakeCpuMicroseconds(identity);
  const bound = (nodeCount * cpu) / 1000 / availableParallelism();
  process.stdout.write(
    `bounded by TLS: ${cpu.toFixed(0)} us for both sides of a handshake, ${seconds(bound)} s for all on this machine; by the nodes' own pause: ${seconds(LAST_PAUSE_MS)} s\n`,
  );
}

function seconds(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(1);
}

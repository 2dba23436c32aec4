/**
 * A fleet of nodes: how soon each connected one hears of a revocation, and how all of them come back after an outage.
 * What bounds it, in the same run: a gRPC server that sends without asking a database, and TLS handshakes.
 *
 *   node bench/fleet.ts [nodes] [watchers]
 */
import { X509Certificate } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { Metadata, credentials } from '@grpc/grpc-js';
import { EnrollmentClient } from '#src/wire/generated/latchkey/node.ts';
import { callUnary } from '#src/wire/unary.ts';
import { startKeyServer } from '../lab/keyserver.ts';
import { REDIAL } from '../shim/agent/key-server.ts';
import { createNodeKey } from '../test/fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../test/fakes/sold-product.ts';
import { coreTime, since } from './core-time.ts';
import { FleetProcess, nowMs } from './fleet-process.ts';
import { startIdleServer } from './idle-grpc-server.ts';
import { type TlsIdentity, handshakeCpuMicroseconds } from './machine-limits.ts';
import { cpuMicroseconds, quantile } from './measured-calls.ts';
import { UNLIMITED } from './unlimited.ts';

const IN_FLIGHT = 16;
const CHANGES = 10;
/** Nodes of one process: its own work must not keep them waiting. */
const NODES_PER_PROCESS = 2500;

const nodeCount = Number(process.argv[2] ?? 10_000);
const watcherCount = Number(process.argv[3] ?? 1000);

let server = await startKeyServer({ args: UNLIMITED });
const fleet: FleetProcess[] = [];
try {
  const sold = await createSoldProduct(server);
  const watched = await sold.sell({ maxNodes: watcherCount });
  const others = await sold.sell({ maxNodes: nodeCount });
  const watching = await enrol(watched.licenseKey, watcherCount);
  const identities = [...watching, ...(await enrol(others.licenseKey, nodeCount - watcherCount))];
  const watchers = new FleetProcess(watching);
  fleet.push(watchers);
  await watchers.watch(server);
  await measureRevocations(watchers, sold, watched.license.id);
  await measureWithoutWork(watching);
  for (let first = watcherCount; first < nodeCount; first += NODES_PER_PROCESS) {
    fleet.push(new FleetProcess(identities.slice(first, first + NODES_PER_PROCESS)));
  }
  for (const part of fleet.slice(1)) await part.watch(server);
  await restartServer();
  await measureReturn('back after an outage of the key server');
  for (const part of fleet) await part.restart();
  await restartServer();
  await measureReturn('back after everything was off');
  await reportHandshakeBound(identities);
} finally {
  for (const part of fleet) part.stop();
  await server.dispose();
}

async function restartServer(): Promise<void> {
  await server.kill();
  const startedMs = performance.now();
  server = await startKeyServer({ args: UNLIMITED, dataDirectory: server.dataDirectory });
  process.stdout.write(`ready again after ${seconds(performance.now() - startedMs)} s\n`);
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

/** From the question of the administrator to each node. */
async function measureRevocations(
  watchers: FleetProcess,
  sold: SoldProduct,
  licenseId: string,
): Promise<void> {
  const cpuBefore = cpuMicroseconds(server.pid);
  const latencies = await latenciesOf(watchers, async (change) => {
    await sold.client.changeLicense(licenseId, change % 2 === 0 ? 'suspend' : 'reinstate');
  });
  const cpu = (cpuMicroseconds(server.pid) - cpuBefore) / latencies.length;
  report(
    `revocation to ${watcherCount} nodes`,
    latencies,
    `(goal: p99 under 500 ms), server CPU ${cpu.toFixed(0)} us/node`,
  );
}

async function measureWithoutWork(identities: readonly TlsIdentity[]): Promise<void> {
  const idle = await startIdleServer();
  const watchers = new FleetProcess(identities);
  try {
    await watchers.watch(idle);
    const latencies = await latenciesOf(watchers, async () => {
      idle.changeAll();
      return Promise.resolve();
    });
    report('bounded by gRPC alone', latencies, '');
  } finally {
    watchers.stop();
    idle.stop();
  }
}

async function latenciesOf(
  watchers: FleetProcess,
  change: (index: number) => Promise<void>,
): Promise<number[]> {
  const latencies: number[] = [];
  for (let index = 0; index < CHANGES; index += 1) {
    const told = await watchers.awaitChange();
    const startedMs = nowMs();
    await change(index);
    latencies.push(...(await told()).map((timeMs) => timeMs - startedMs));
  }
  return latencies;
}

function report(name: string, latencies: readonly number[], more: string): void {
  process.stdout.write(
    `${name.padEnd(26)} p50 ${quantile(latencies, 0.5).toFixed(0)} ms  p99 ${quantile(latencies, 0.99).toFixed(0)} ms  ${more}\n`,
  );
}

/**
 * Everybody has noticed the outage, and dials at the end of its own pause. On a machine that others use, the time that
 * the server waited for a core says how much of the wall time is theirs.
 */
async function measureReturn(how: string): Promise<void> {
  const cpuBefore = cpuMicroseconds(server.pid);
  const pids = [server.pid, ...fleet.map(({ pid }) => pid)];
  const before = pids.map(coreTime);
  const startedMs = nowMs();
  const parts = await Promise.all(fleet.map((part) => part.comeBack(server)));
  const [ofServer, ...ofNodes] = pids.map((pid, index) =>
    since(before[index] ?? coreTime(pid), coreTime(pid)),
  );
  const servedMs = parts.flatMap(({ times }) => times.map((timeMs) => timeMs - startedMs));
  const redials = parts.reduce((sum, part) => sum + part.redials, 0);
  const cpu = (cpuMicroseconds(server.pid) - cpuBefore) / nodeCount;
  const onCore = ofNodes.reduce((sum, { onCoreMs }) => sum + onCoreMs, 0);
  process.stdout.write(
    `${nodeCount} nodes ${how}: half of them in ${seconds(quantile(servedMs, 0.5))} s, all in ${seconds(quantile(servedMs, 1))} s ` +
      `(goal: 60 s), ${redials} dialled in vain, server CPU ${cpu.toFixed(0)} us/node; the server's event loop was ` +
      `${seconds(ofServer?.onCoreMs ?? 0)} s on a core and waited ${seconds(ofServer?.waitingMs ?? 0)} s for one, the nodes took ${seconds(onCore)} s\n`,
  );
}

async function reportHandshakeBound([identity]: readonly TlsIdentity[]): Promise<void> {
  if (identity === undefined) return;
  const cpu = await handshakeCpuMicroseconds(identity);
  const bound = (nodeCount * cpu) / 1000 / availableParallelism();
  process.stdout.write(
    `bounded by TLS: ${cpu.toFixed(0)} us for both sides of a whole handshake, ${seconds(bound)} s for all on this machine; by the nodes' own pause: ${seconds(REDIAL.maxMs)} s\n`,
  );
}

function seconds(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(1);
}

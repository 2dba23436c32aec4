/**
 * Durable lease decisions per second: a key server in its own process, this process as the only client, one
 * connection over mutual TLS. The yardstick is a gRPC server that does nothing at all, in the same run.
 *
 *   node bench/acquire-lease.ts [calls] [in flight]
 */
import { readFileSync } from 'node:fs';
import { startKeyServer } from '../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../test/fakes/licensed-node.ts';
import { createSoldProduct } from '../test/fakes/sold-product.ts';
import { startIdleServer } from './idle-grpc-server.ts';

const WARM_UP_CALLS = 500;
const ROUNDS = 3;
/** Linux counts CPU time in hundredths of a second for every program. */
const TICK_MICROSECONDS = 10_000;

interface Round {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU of the server per call; steadier than the rate when others use the machine. */
  readonly serverCpuMicroseconds: number;
}

const calls = Number(process.argv[2] ?? 4000);
const inFlight = Number(process.argv[3] ?? 16);

// What one node may ask is limited; this asks how much there is.
const NO_LIMIT = '1000000/1000000';
const server = await startKeyServer({
  args: ['node', 'license', 'token'].flatMap((name) => ['--rate-limit', `${name}=${NO_LIMIT}`]),
});
const idle = await startIdleServer();
try {
  const sold = await createSoldProduct(server);
  const { licenseKey } = await sold.sell();
  const node = await activateNode(server, licenseKey);
  const acquire = () =>
    node.acquire({ imageDigest: sold.image.imageDigest, imageKeyId: sold.image.imageKeyId });
  await measure(acquire, WARM_UP_CALLS, server.pid);
  await measure(idle.call, WARM_UP_CALLS, idle.pid);
  const leases: Round[] = [];
  const nothing: Round[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    leases.push(await measure(acquire, calls, server.pid));
    nothing.push(await measure(idle.call, calls, idle.pid));
  }
  report('AcquireLease', leases);
  report('gRPC no-op', nothing);
  const ratio =
    median(leases.map((round) => round.perSecond)) / median(nothing.map((round) => round.perSecond));
  process.stdout.write(`ratio to the no-op: ${ratio.toFixed(2)}\n`);
  await checkLog(sold.client, node);
  node.close();
} finally {
  idle.stop();
  await server.dispose();
}

async function measure(call: () => Promise<unknown>, count: number, serverPid: number): Promise<Round> {
  const cpuBefore = cpuMicroseconds(serverPid);
  const latencies: number[] = [];
  const startedMs = performance.now();
  let begun = 0;
  const worker = async () => {
    while (begun < count) {
      begun += 1;
      const before = performance.now();
      await call();
      latencies.push(performance.now() - before);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  const seconds = (performance.now() - startedMs) / 1000;
  latencies.sort((left, right) => left - right);
  return {
    perSecond: count / seconds,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    serverCpuMicroseconds: (cpuMicroseconds(serverPid) - cpuBefore) / count,
  };
}

/** User and system time of a process in all its threads (proc_pid_stat(5), fields 14 and 15). */
function cpuMicroseconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MICROSECONDS;
}

/** The rate only counts when every lease is in the log. */
async function checkLog(
  client: Awaited<ReturnType<typeof createSoldProduct>>['client'],
  node: LicensedNode,
): Promise<void> {
  let allowed = 0;
  for await (const event of client.auditEvents()) {
    if (event.action === 'lease.acquire' && event.outcome === 'allowed') allowed += 1;
  }
  const expected = WARM_UP_CALLS + ROUNDS * calls;
  if (allowed !== expected)
    throw new Error(`${allowed} leases of ${node.activation.nodeId} in the log, not ${expected}`);
}

function report(name: string, rounds: readonly Round[]): void {
  const value = (pick: (round: Round) => number) => median(rounds.map(pick));
  process.stdout.write(
    `${name.padEnd(14)} ${value((r) => r.perSecond).toFixed(0)}/s  p50 ${value((r) => r.p50Ms).toFixed(1)} ms  ` +
      `p99 ${value((r) => r.p99Ms).toFixed(1)} ms  ` +
      `server CPU ${value((r) => r.serverCpuMicroseconds).toFixed(0)} us/call  (${inFlight} in flight, median of ${ROUNDS})\n`,
  );
}

function quantile(sorted: readonly number[], fraction: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0;
}

function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((left, right) => left - right),
    0.5,
  );
}

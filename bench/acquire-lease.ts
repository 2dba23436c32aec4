/**
 * Durable lease decisions per second: a key server in its own process, this process as the only client, one connection
 * over mutual TLS. What bounds it, in the same run: a gRPC server that does nothing at all, the cryptography of a
 * release, and the disk.
 *
 *   node --max-semi-space-size=2 bench/acquire-lease.ts [sqlite|postgres] [calls] [in flight]
 */
import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { NodesService } from '#src/wire/generated/latchkey/node.ts';
import { startKeyServer } from '../lab/keyserver.ts';
import { postgresSkipReason, startPostgres } from '../lab/postgres.ts';
import { type LicensedNode, activateNode } from '../test/fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../test/fakes/sold-product.ts';
import { startIdleServer } from './idle-grpc-server.ts';
import { durableWritesPerSecond, releaseCpuMicroseconds } from './machine-limits.ts';
import { type CallRound, measureCalls, reportCalls } from './measured-calls.ts';
import { median } from './statistics.ts';
import { UnaryConnection } from './unary-connection.ts';
import { UNLIMITED } from './unlimited.ts';

const WARM_UP_CALLS = 1000;
const ROUNDS = 3;
const NONCE_BYTES = 16;

const database = process.argv[2] ?? 'sqlite';
if (!['sqlite', 'postgres'].includes(database))
  throw new Error('usage: acquire-lease.ts [sqlite|postgres] [calls] [in flight]');
const calls = Number(process.argv[3] ?? 6000);
const inFlight = Number(process.argv[4] ?? 16);

if (database === 'postgres' && postgresSkipReason() !== null) {
  process.stdout.write(`left out: ${postgresSkipReason() ?? ''}\n`);
} else {
  await run();
}

async function run(): Promise<void> {
  const postgres = database === 'postgres' ? await startPostgres() : null;
  const url = await postgres?.createDatabase('latchkey');
  const server = await startKeyServer({
    args: UNLIMITED,
    env: { ...process.env, ...(url === undefined ? {} : { LATCHKEY_DATABASE: url }) },
  });
  const idle = await startIdleServer();
  try {
    const sold = await createSoldProduct(server);
    const node = await activateNode(server, (await sold.sell()).licenseKey);
    const { imageDigest, imageKeyId } = sold.image;
    const connection = UnaryConnection.ofNode(server, node);
    const acquire = () =>
      connection.call(NodesService.acquireLease, {
        ...{ imageDigest, imageKeyId, position: undefined },
        ...{ nonce: randomBytes(NONCE_BYTES), nodeTimeMs: Date.now() },
      });
    const load = { calls, inFlight };
    await measureCalls(acquire, { ...load, calls: WARM_UP_CALLS, serverPid: server.pid });
    await measureCalls(idle.call, { ...load, calls: WARM_UP_CALLS, serverPid: idle.pid });
    const leases: CallRound[] = [];
    const nothing: CallRound[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      leases.push(await measureCalls(acquire, { ...load, serverPid: server.pid }));
      nothing.push(await measureCalls(idle.call, { ...load, serverPid: idle.pid }));
    }
    reportCalls(`AcquireLease, ${database}`, leases);
    reportCalls('gRPC call without work', nothing);
    await reportLimits(leases, nothing, server.dataDirectory);
    await checkLog(sold.client, node);
    connection.close();
    node.close();
  } finally {
    idle.stop();
    await server.dispose();
    await postgres?.dispose();
  }
}

/** Server and client share the cores, so a call costs what both spend on it. */
async function reportLimits(
  leases: readonly CallRound[],
  nothing: readonly CallRound[],
  directory: string,
): Promise<void> {
  const cores = availableParallelism();
  const cpu = (rounds: readonly CallRound[]) =>
    median(rounds.map((round) => round.serverCpuMicroseconds + round.clientCpuMicroseconds));
  const boundOf = (microseconds: number) => (cores * 1_000_000) / microseconds;
  const perSecond = median(leases.map((round) => round.perSecond));
  const bound = boundOf(cpu(leases));
  const least = cpu(nothing) + (await releaseCpuMicroseconds());
  process.stdout.write(
    `bounded by CPU: ${cpu(leases).toFixed(0)} us on both sides = ${bound.toFixed(0)}/s on ${cores} cores (ratio ${(perSecond / bound).toFixed(2)}); ` +
      `a call without work, sealed and signed: ${least.toFixed(0)} us = ${boundOf(least).toFixed(0)}/s; ` +
      `not by the disk: ${durableWritesPerSecond(directory).toFixed(0)} durable writes/s, each for a group\n`,
  );
}

/** The rate only counts when every lease is in the log. */
async function checkLog(client: SoldProduct['client'], node: LicensedNode): Promise<void> {
  let allowed = 0;
  for await (const event of client.auditEvents()) {
    if (event.action === 'lease.acquire' && event.outcome === 'allowed') allowed += 1;
  }
  const expected = WARM_UP_CALLS + ROUNDS * calls;
  if (allowed !== expected)
    throw new Error(`${allowed} leases of ${node.activation.nodeId} in the log, not ${expected}`);
}

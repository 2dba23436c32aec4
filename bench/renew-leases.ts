/**
 * Durable renewals per second, in batches as a node asks for them. What bounds it, in the same run: the signature that
 * each lease needs, and the disk.
 *
 *   node bench/renew-leases.ts [batches] [in flight]
 */
import { tokensOf } from '#src/crypto/open-token.ts';
import { NodesService } from '#src/wire/generated/latchkey/node.ts';
import { startKeyServer } from '../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../test/fakes/licensed-node.ts';
import { type RegisteredImage, createSoldProduct } from '../test/fakes/sold-product.ts';
import { durableWritesPerSecond, signatureCpuMicroseconds } from './machine-limits.ts';
import { type CallRound, measureCalls, reportCalls } from './measured-calls.ts';
import { median } from './statistics.ts';
import { UnaryConnection } from './unary-connection.ts';
import { UNLIMITED } from './unlimited.ts';

const LEASES_PER_BATCH = 20;
const WARM_UP_BATCHES = 100;
const ROUNDS = 3;
const LEASE_ID_CHARACTERS = 120;

const calls = Number(process.argv[2] ?? 1000);
const inFlight = Number(process.argv[3] ?? 8);

const server = await startKeyServer({ args: UNLIMITED });
try {
  const sold = await createSoldProduct(server);
  const node = await activateNode(server, (await sold.sell()).licenseKey);
  const connection = UnaryConnection.ofNode(server, node);
  // A renewed lease is followed by another one, so each call takes the leases that an earlier one has left.
  const batches: string[][] = [];
  for (let batch = 0; batch < inFlight; batch += 1) batches.push(await acquireBatch(node, sold.image));
  const renew = async () => {
    const batch = batches.pop();
    if (batch === undefined) throw new Error('more calls than batches of leases');
    const { leaseList } = await connection.call(NodesService.renewLeases, {
      ...{ leaseIds: batch, nodeTimeMs: Date.now() },
      ...{ position: undefined, acceptsLeaseList: true },
    });
    const next = tokensOf(leaseList).map(leaseIdOf);
    if (next.length !== batch.length) throw new Error('a lease was not renewed');
    batches.push(next);
  };
  await measureCalls(renew, { calls: WARM_UP_BATCHES, inFlight, serverPid: server.pid });
  const rounds: CallRound[] = [];
  for (let round = 0; round < ROUNDS; round += 1)
    rounds.push(await measureCalls(renew, { calls, inFlight, serverPid: server.pid }));
  reportCalls(`RenewLeases, by ${LEASES_PER_BATCH}`, rounds);
  await reportLimits(rounds);
  connection.close();
  node.close();
} finally {
  await server.dispose();
}

async function acquireBatch(node: LicensedNode, image: RegisteredImage): Promise<string[]> {
  const { imageDigest, imageKeyId } = image;
  const answers = await Promise.all(
    Array.from({ length: LEASES_PER_BATCH }, () => node.acquire({ imageDigest, imageKeyId })),
  );
  return answers.map(({ lease }) => leaseIdOf(lease));
}

/** By its place at the beginning of the claims: the client, on the same cores, should cost little. */
function leaseIdOf(token: string): string {
  const payload = token.split(/[.~]/).at(token.includes('~') ? -1 : 1) ?? '';
  const start = Buffer.from(payload.slice(0, LEASE_ID_CHARACTERS), 'base64url').toString();
  const leaseId = /^\{"leaseId":"([^"]+)"/.exec(start)?.[1];
  if (leaseId === undefined) throw new Error('a lease does not begin with its id');
  return leaseId;
}

async function reportLimits(rounds: readonly CallRound[]): Promise<void> {
  const perSecond = median(rounds.map((round) => round.perSecond)) * LEASES_PER_BATCH;
  const cpu = median(rounds.map((round) => round.serverCpuMicroseconds)) / LEASES_PER_BATCH;
  const signature = await signatureCpuMicroseconds();
  const bound = 1_000_000 / signature;
  process.stdout.write(
    `${perSecond.toFixed(0)} leases/s (goal 10,000), server CPU ${cpu.toFixed(0)} us/lease; bounded by CPU: ${signature.toFixed(0)} us to sign = ` +
      `${bound.toFixed(0)}/s on one core (ratio ${(perSecond / bound).toFixed(2)}); not by the disk: ` +
      `${durableWritesPerSecond(server.dataDirectory).toFixed(0)} durable writes/s, each for batches of leases\n`,
  );
}

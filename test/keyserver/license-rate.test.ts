/** The calls that one license may make: renewals and usage reports count, and one that comes too soon leaves no trace. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const METER = 'pages';

let server: TestKeyServer;
let sold: SoldProduct;
const nodes: LicensedNode[] = [];

beforeAll(async () => {
  // Longer than a call takes, also on a machine that is busy, and a wait that a test can make.
  server = await startKeyServer({ args: ['--rate-limit', 'license=0.2/4'] });
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  for (const node of nodes) node.close();
  await server.dispose();
});

/** A node with a lease. */
async function startedNode() {
  const { license, licenseKey } = await sold.sell();
  await sold.client.metering.setMeter(license.id, METER, { max: 100, isOpenToNodes: true });
  const node = await activateNode(server, licenseKey);
  nodes.push(node);
  await node.acquire(sold.image);
  const [lease] = await sold.client.leases({ license: license.id });
  return { node, licenseId: license.id, leaseId: lease?.id ?? '' };
}

/** Makes calls until one is refused as a whole. */
async function refusalOf(call: (count: number) => Promise<void>) {
  for (let count = 0; count < 50; count += 1) {
    try {
      await call(count);
    } catch (error) {
      expect(error).toMatchObject({ code: 'RATE_LIMITED', message: 'too many calls under this license' });
      const { retryAfterMs } = error as LatchkeyError;
      expect(retryAfterMs).toBeGreaterThan(0);
      return { count, wait: () => new Promise((resolve) => setTimeout(resolve, retryAfterMs)) };
    }
  }
  throw new Error('no call was refused');
}

/** Gives the lease that follows. */
async function renewed(node: LicensedNode, leaseIds: string[]): Promise<string> {
  const { results } = await node.renew(leaseIds);
  const outcome = results.at(-1)?.outcome;
  if (outcome?.$case !== 'lease') throw new Error('the lease was not renewed');
  return (await node.claimsOf(outcome.value)).leaseId;
}

const eventsOf = async (actor: string, action: string) =>
  (await auditLog(sold.client)).filter((event) => event.action === action && event.actor === `node:${actor}`);
const used = async (licenseId: string) => (await sold.client.metering.meters(licenseId))[0]?.used;

it('refuses a renewal as a whole, which ends no lease: it is renewed later', async () => {
  const [busy, quiet] = [await startedNode(), await startedNode()];
  const { nodeId } = busy.node.activation;
  let { leaseId } = busy;
  const { count, wait } = await refusalOf(async () => {
    leaseId = await renewed(busy.node, [leaseId]);
  });
  expect(count).toBeGreaterThan(0);
  expect((await eventsOf(nodeId, 'lease.renew')).map(({ outcome }) => outcome)).toEqual(
    Array(count).fill('allowed'),
  );
  await renewed(quiet.node, [quiet.leaseId]);
  await wait();
  await renewed(busy.node, [leaseId]);
  expect(await eventsOf(nodeId, 'lease.renew')).toHaveLength(count + 1);
});

it('refuses a usage report, which counts once it comes later', async () => {
  const [busy, quiet] = [await startedNode(), await startedNode()];
  const report = async ({ node }: typeof busy, reportId: string) => {
    await node.reportUsage({ meter: METER, reportId, amount: 5 });
  };
  const { count, wait } = await refusalOf((number) => report(busy, `r${number}`));
  expect(count).toBeGreaterThan(0);
  expect(await used(busy.licenseId)).toBe(5 * count);
  expect(await eventsOf(busy.node.activation.nodeId, 'meter.report')).toHaveLength(count);
  await report(quiet, 'r0');
  await wait();
  await report(busy, `r${count}`);
  expect(await used(busy.licenseId)).toBe(5 * (count + 1));
});

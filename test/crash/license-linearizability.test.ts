/**
 * Many nodes start and renew while licenses are suspended, reinstated and revoked and the key server is killed under
 * them. What everybody was told is recorded, and there must be an order of it that a single license would have gone through.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeJwt } from 'jose';
import { expect, it, onTestFinished } from 'vitest';
import { toLatchkeyError } from '#src/base/errors.ts';
import type { AdminClient } from '../../cli/admin-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import {
  type RegisteredImage,
  type SoldProduct,
  adminClient,
  createSoldProduct,
} from '../fakes/sold-product.ts';
import {
  type HeldState,
  type LicenseOperation,
  findContradiction,
  grantsAfterRevocation,
} from './license-history.ts';

const KILLS = process.env['SLOW'] === '1' ? 100 : 6;
const LICENSES = 4;
const NODES_PER_LICENSE = 3;
const MIN_LIFE_MS = 200;
const MAX_LIFE_MS = 1200;
/** Between changes, so that many answers fall into each state and not only beside a change. */
const MAX_PAUSE_MS = 100;
/** Of the changes; the others suspend and reinstate. */
const REVOKED_SHARE = 0.2;

/** What a node learns of its license from an answer. A lease of an older epoch is refused while the license is good. */
const STATE_OF_DENIAL: Record<string, HeldState> = {
  DENIED_LICENSE_REVOKED: 'REVOKED',
  DENIED_LICENSE_SUSPENDED: 'SUSPENDED',
  DENIED_LEASE_INVALID: 'ACTIVE',
};

const VERBS = { SUSPENDED: 'suspend', ACTIVE: 'reinstate', REVOKED: 'revoke' } as const;

/** Everything happens in this process, so counting gives the true order of questions and answers. */
let moment = 0;

interface SoldLicense {
  readonly id: string;
  readonly nodes: LicensedNode[];
  readonly history: LicenseOperation[];
  /** What the admin asked for last. */
  wanted: HeldState;
  isAnswered: boolean;
}

class ServerGone extends Error {}

/** Records what an operation wrote or saw. @throws ServerGone when no answer came */
async function record(
  history: LicenseOperation[],
  kind: LicenseOperation['kind'],
  asked: HeldState,
  ask: () => Promise<HeldState>,
): Promise<void> {
  const askedAt = ++moment;
  try {
    const state = await ask();
    history.push({ kind, state, askedAt, answeredAt: ++moment });
  } catch (error) {
    if (!toLatchkeyError(error).code.startsWith('NET_')) throw error;
    history.push({ kind, state: asked, askedAt, answeredAt: null });
    throw new ServerGone('no answer', { cause: error });
  }
}

function stateOfDenial(code: string): HeldState {
  const state = STATE_OF_DENIAL[code];
  if (state === undefined) throw new Error(`an answer that was not to be expected: ${code}`);
  return state;
}

/** Starts and renews by turns. */
async function runNode({ history }: SoldLicense, node: LicensedNode, image: RegisteredImage): Promise<void> {
  for (;;) {
    let leaseId: string | undefined;
    await record(history, 'observation', 'ACTIVE', async () => {
      try {
        const { lease } = await node.acquire(image);
        leaseId = decodeJwt<{ leaseId: string }>(lease).leaseId;
        return 'ACTIVE';
      } catch (error) {
        const { code } = toLatchkeyError(error);
        if (code.startsWith('NET_')) throw error;
        return stateOfDenial(code);
      }
    });
    if (leaseId === undefined) continue;
    const renewed = leaseId;
    await record(history, 'observation', 'ACTIVE', async () => {
      const outcome = (await node.renew([renewed])).results[0]?.outcome;
      return outcome?.$case === 'denial' ? stateOfDenial(outcome.value.code) : 'ACTIVE';
    });
  }
}

/** Changes the license until it is revoked; a change whose answer was lost is asked for again. */
async function runAdmin(license: SoldLicense, client: AdminClient): Promise<void> {
  for (;;) {
    if (license.isAnswered) {
      if (license.wanted === 'REVOKED') return;
      const other = license.wanted === 'ACTIVE' ? 'SUSPENDED' : 'ACTIVE';
      license.wanted = Math.random() < REVOKED_SHARE ? 'REVOKED' : other;
      license.isAnswered = false;
    }
    const { wanted } = license;
    await record(license.history, 'change', wanted, async () => {
      await client.changeLicense(license.id, VERBS[wanted]);
      return wanted;
    });
    license.isAnswered = true;
    await sleep(Math.random() * MAX_PAUSE_MS);
  }
}

async function sellLicense(server: TestKeyServer, sold: SoldProduct): Promise<SoldLicense> {
  const { license, licenseKey } = await adminClient(server).createLicense({
    customer: sold.customerId,
    product: sold.productCode,
    maxNodes: NODES_PER_LICENSE,
  });
  const nodes: LicensedNode[] = [];
  for (let count = 0; count < NODES_PER_LICENSE; count += 1) {
    nodes.push(await activateNode(server, licenseKey, { name: `node-${count}` }));
  }
  return { id: license.id, nodes, history: [], wanted: 'ACTIVE', isAnswered: true };
}

/** The nodes again, on the ports of the server's next life. */
function reconnect(license: SoldLicense, server: TestKeyServer): SoldLicense {
  const nodes = license.nodes.map((node) => {
    node.close();
    return new LicensedNode(server, node.key, node.activation);
  });
  return { ...license, nodes };
}

async function untilServerGone(running: Promise<void>): Promise<void> {
  await running.catch((error: unknown) => {
    if (!(error instanceof ServerGone)) throw error;
  });
}

it(`tells every node of one order of changes, in ${KILLS} kills`, async () => {
  let server = await startKeyServer();
  onTestFinished(() => server.dispose());
  const { dataDirectory } = server;
  const sold = await createSoldProduct(server);
  const all = new Map<string, LicenseOperation[]>();
  let licenses: SoldLicense[] = [];
  for (let kill = 0; kill < KILLS; kill += 1) {
    const kept = licenses.filter(({ wanted, isAnswered }) => wanted !== 'REVOKED' || !isAnswered);
    for (const ended of licenses.filter((license) => !kept.includes(license))) {
      for (const node of ended.nodes) node.close();
    }
    licenses = kept.map((license) => reconnect(license, server));
    while (licenses.length < LICENSES) licenses.push(await sellLicense(server, sold));
    const client = adminClient(server);
    const running = licenses.flatMap((license) => {
      all.set(license.id, license.history);
      return [
        untilServerGone(runAdmin(license, client)),
        ...license.nodes.map((node) => untilServerGone(runNode(license, node, sold.image))),
      ];
    });
    const ended = Promise.all(running);
    // An answer that is wrong ends the test at once.
    await Promise.race([ended, sleep(MIN_LIFE_MS + Math.random() * (MAX_LIFE_MS - MIN_LIFE_MS))]);
    await server.kill();
    await ended;
    server = await startKeyServer({ dataDirectory });
  }
  for (const license of licenses) {
    const { nodes, history } = reconnect(license, server);
    // Whatever is in force now has to be explained too.
    for (const node of nodes) {
      await record(history, 'observation', 'ACTIVE', () =>
        node.acquire(sold.image).then(
          () => 'ACTIVE' as const,
          (error: unknown) => stateOfDenial(toLatchkeyError(error).code),
        ),
      );
      node.close();
    }
  }

  for (const [licenseId, history] of all) {
    expect(grantsAfterRevocation(history), licenseId).toEqual([]);
    expect(findContradiction(history), licenseId).toBeNull();
  }
  // There must have been something to find.
  const operations = [...all.values()].flat();
  const count = (kind: string, state: HeldState): number =>
    operations.filter((one) => one.kind === kind && one.state === state && one.answeredAt !== null).length;
  expect(count('change', 'REVOKED')).toBeGreaterThan(0);
  expect(count('change', 'SUSPENDED')).toBeGreaterThan(0);
  expect(count('observation', 'ACTIVE')).toBeGreaterThan(0);
  expect(count('observation', 'SUSPENDED')).toBeGreaterThan(0);
  expect(count('observation', 'REVOKED')).toBeGreaterThan(0);
});

/**
 * Many nodes start and renew while licenses are suspended, reinstated and revoked and the key server is killed under
 * them. What everybody was told is recorded, and there must be an order of it that a single license would have gone through.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { it, onTestFinished } from 'vitest';
import type { AdminClient } from '../../cli/admin-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { LicensedNode } from '../fakes/licensed-node.ts';
import { type RegisteredImage, adminClient, createSoldProduct } from '../fakes/sold-product.ts';
import type { LicenseOperation } from './license-history.ts';
import {
  type LoadedLicense,
  ServerGone,
  changeLicense,
  coversEachState,
  expectOneOrder,
  sellLicense,
  startAndRenew,
} from './license-load.ts';

const KILLS = process.env['SLOW'] === '1' ? 100 : 6;
const LICENSES = 4;
const NODES_PER_LICENSE = 3;
const MIN_LIFE_MS = 200;
const MAX_LIFE_MS = 1200;
/** Between changes, so that many answers fall into each state and not only beside a change. */
const MAX_PAUSE_MS = 100;

async function runNode(license: LoadedLicense, node: LicensedNode, image: RegisteredImage): Promise<void> {
  for (;;) await startAndRenew(license, node, image);
}

async function runAdmin(license: LoadedLicense, client: AdminClient): Promise<void> {
  while ((await changeLicense(license, client)) !== undefined) await sleep(Math.random() * MAX_PAUSE_MS);
}

/** The nodes again, on the ports of the server's next life. */
function reconnect(license: LoadedLicense, server: TestKeyServer): LoadedLicense {
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

it(`tells every node of one order of changes, in at least ${KILLS} kills`, async () => {
  let server = await startKeyServer();
  onTestFinished(() => server.dispose());
  const { dataDirectory } = server;
  const sold = await createSoldProduct(server);
  const all = new Map<string, LicenseOperation[]>();
  let licenses: LoadedLicense[] = [];
  // A machine that is busy may need more of them until there is something to order.
  for (let kill = 0; kill < KILLS || !coversEachState(all); kill += 1) {
    const kept = licenses.filter(({ wanted, isAnswered }) => wanted !== 'REVOKED' || !isAnswered);
    for (const ended of licenses.filter((license) => !kept.includes(license))) {
      for (const node of ended.nodes) node.close();
    }
    licenses = kept.map((license) => reconnect(license, server));
    while (licenses.length < LICENSES) licenses.push(await sellLicense(server, sold, NODES_PER_LICENSE));
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
      await startAndRenew({ history }, node, sold.image);
      node.close();
    }
  }
  expectOneOrder(all);
});

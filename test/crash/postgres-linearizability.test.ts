/**
 * The same as license-linearizability.test.ts on one PostgreSQL with two key servers: starts at both, changes at either, and
 * one of them is killed while the other goes on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { it, onTestFinished } from 'vitest';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { FORGETFUL, postgresSkipReason, startPostgres } from '../../lab/postgres.ts';
import { LicensedNode } from '../fakes/licensed-node.ts';
import { type RegisteredImage, adminClient, createSoldProduct } from '../fakes/sold-product.ts';
import type { HeldState, LicenseOperation } from './license-history.ts';
import {
  type LoadedLicense,
  ServerGone,
  changeLicense,
  coversEachState,
  expectOneOrder,
  sellLicense,
  startAndRenew,
} from './license-load.ts';

const KILLS = process.env['SLOW'] === '1' ? 50 : 4;
const LICENSES = 3;
const NODES_PER_LICENSE = 2;
const MIN_LIFE_MS = 200;
const MAX_LIFE_MS = 800;
/** Between changes, so that many answers fall into each state and not only beside a change. */
const MAX_PAUSE_MS = 100;
const EACH_ANSWER = [0, 1].flatMap((server) => [
  ...[`node ${server} ACTIVE`, `node ${server} REVOKED`, `admin ${server} SUSPENDED`],
]);

const skipReason = postgresSkipReason();

/** Two key servers on one database. */
class Pair {
  readonly #servers: TestKeyServer[];
  readonly #isUp = [true, true];
  /** Which of them answered what, for all that was asked. */
  readonly answers = new Set<string>();
  isOver = false;

  constructor(servers: readonly TestKeyServer[]) {
    this.#servers = [...servers];
  }

  get any(): TestKeyServer {
    return this.#servers[Math.random() < 0.5 ? 0 : 1]!;
  }

  async dispose(): Promise<void> {
    for (const server of this.#servers) await server.dispose();
  }

  async replace(which: number, start: () => Promise<TestKeyServer>): Promise<void> {
    const killed = this.#servers[which]!.kill();
    this.#isUp[which] = false;
    await killed;
    this.#servers[which] = await start();
    this.#isUp[which] = true;
  }

  /** Asks now the one and now the other until all is over, or until there is no more to ask; also when one goes away. */
  async askByTurns(
    who: string,
    ask: (server: TestKeyServer) => Promise<HeldState | undefined>,
  ): Promise<void> {
    for (let turn = 0; !this.isOver; turn = 1 - turn) {
      if (this.#isUp[turn] !== true) continue;
      try {
        const answer = await ask(this.#servers[turn]!);
        if (answer === undefined) return;
        this.answers.add(`${who} ${turn} ${answer}`);
      } catch (error) {
        if (!(error instanceof ServerGone)) throw error;
      }
    }
  }
}

async function runNode(
  pair: Pair,
  license: LoadedLicense,
  node: LicensedNode,
  image: RegisteredImage,
): Promise<void> {
  const connections = new Map<TestKeyServer, LicensedNode>();
  await pair.askByTurns('node', (server) => {
    const connection = connections.get(server) ?? new LicensedNode(server, node.key, node.activation);
    connections.set(server, connection);
    return startAndRenew(license, connection, image);
  });
  for (const connection of connections.values()) connection.close();
}

async function runAdmin(pair: Pair, license: LoadedLicense, adminToken: string): Promise<void> {
  await pair.askByTurns('admin', async (server) => {
    await sleep(Math.random() * MAX_PAUSE_MS);
    return changeLicense(license, adminClient(server, adminToken));
  });
}

it.skipIf(skipReason !== null)(
  `two key servers on one PostgreSQL tell every node of one order of changes, in at least ${KILLS} kills`,
  async () => {
    const postgres = await startPostgres({ settings: FORGETFUL });
    onTestFinished(() => postgres.dispose());
    const env = { ...process.env, LATCHKEY_DATABASE: await postgres.createDatabase('latchkey') };
    const first = await startKeyServer({ env });
    const { dataDirectory, adminToken } = first;
    const start = (): Promise<TestKeyServer> => startKeyServer({ env, dataDirectory });
    const pair = new Pair([first, await start()]);
    onTestFinished(() => pair.dispose());
    const sold = await createSoldProduct(first);
    const all = new Map<string, LicenseOperation[]>();
    const hasEnough = (): boolean =>
      coversEachState(all) && EACH_ANSWER.every((one) => pair.answers.has(one));
    // A machine that is busy may need more of them until each server has told of each state.
    for (let kill = 0; kill < KILLS || !hasEnough(); kill += 1) {
      pair.isOver = false;
      const licenses = await Promise.all(
        Array.from({ length: LICENSES }, () => sellLicense(pair.any, sold, NODES_PER_LICENSE)),
      );
      for (const { id, history } of licenses) all.set(id, history);
      const running = Promise.all(
        licenses.flatMap((license) => [
          runAdmin(pair, license, adminToken),
          ...license.nodes.map((node) => runNode(pair, license, node, sold.image)),
        ]),
      );
      const killing = sleep(MIN_LIFE_MS + Math.random() * (MAX_LIFE_MS - MIN_LIFE_MS)).then(async () => {
        await pair.replace(kill % 2, start);
        pair.isOver = true;
      });
      const outcomes = await Promise.allSettled([running, killing]);
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
      for (const node of licenses.flatMap(({ nodes }) => nodes)) node.close();
    }
    expectOneOrder(all);
    await verifyAuditLog(adminClient(pair.any, adminToken).auditEvents());
  },
);

/** The real agent, killed at any moment; it needs no containerd to speak to its key server. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { LabAgent } from '../../lab/node-agent.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const WAIT = { timeout: 60_000, interval: 50 };
const KILLS = 6;
const why = process.getuid?.() === 0 ? '' : ' (skipped: needs root, to mount)';

const directory = temporaryDirectory();
let server: TestKeyServer;
let sold: SoldProduct;
let agent: LabAgent;

beforeEach(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});
afterEach(async () => {
  await agent.kill();
  await agent.forgetMemory();
  await server.dispose();
});

describe.skipIf(why !== '')(`an agent${why}`, () => {
  test('that is killed while it opens its session is never taken for a copy or a snapshot', async () => {
    const authorityFile = join(directory(), 'authority.pem');
    await writeFile(authorityFile, server.authorityPem);
    agent = new LabAgent({
      directory: join(directory(), 'a'),
      containerdAddress: join(directory(), 'containerd.sock'),
      keyServer: server.nodeAddress,
      enrollment: server.enrollAddress,
      authorityFile,
    });
    await agent.start();
    const connection = agent.connect();
    const { nodeId } = await connection.activate((await sold.sell()).licenseKey);
    connection.close();
    for (let kill = 0; kill < KILLS; kill += 1) {
      // Right after it is ready it opens its session; each time a little later.
      await sleep(kill * 8);
      await agent.kill();
      await agent.start();
    }
    const last = agent.connect();
    await vi.waitFor(async () => expect((await last.status()).keyServerConnected).toBe(true), WAIT);
    last.close();
    expect((await sold.client.nodes()).find(({ id }) => id === nodeId)?.state).toBe('ACTIVE');
  });
});

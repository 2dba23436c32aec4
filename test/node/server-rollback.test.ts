import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type TestKeyServer, keptAddresses, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const WAIT = { timeout: 60_000, interval: 50 };

const directory = temporaryDirectory();
const nodes: AgentNode[] = [];

afterEach(() => {
  for (const node of nodes.splice(0)) node.stop();
});

async function start(keyServer: TestKeyServer): Promise<AgentNode> {
  const node = await AgentNode.start({ directory: join(directory(), 'n'), keyServer });
  nodes.push(node);
  return node;
}

describe('a key server that was restored from an older copy', () => {
  test('is refused by the nodes that have seen more, until its operator says so', async () => {
    const own = await startKeyServer({ args: await keptAddresses() });
    const addresses = ['--node-listen', own.nodeAddress, '--enroll-listen', own.enrollAddress];
    const backup = await mkdtemp(join(tmpdir(), 'latchkey-backup-'));
    let running = own;
    const restart = async (args: readonly string[] = []) => {
      running = await startKeyServer({ dataDirectory: own.dataDirectory, args: [...addresses, ...args] });
    };
    try {
      const product = await createSoldProduct(own);
      const { licenseKey } = await product.sell();
      const node = await start(own);
      await node.agent.activate(licenseKey);
      await node.lease(product.image);
      await own.stop();
      await cp(own.dataDirectory, backup, { recursive: true });
      await restart();
      const later = await createSoldProduct(running);
      await later.sell();
      await vi.waitFor(() => expect(node.agent.watch.state.connected).toBe(true), WAIT);
      node.stop();
      const seen = await start(own);
      await seen.lease(product.image);
      await running.stop();
      await rm(own.dataDirectory, { recursive: true });
      await cp(backup, own.dataDirectory, { recursive: true });
      await restart();
      // What it holds it keeps, as in an outage; nothing new is taken from this server.
      expect((await seen.lease(product.image)).denial).toBeUndefined();
      await vi.waitFor(() => expect(seen.agent.watch.state.connected).toBe(false), WAIT);
      seen.stop();
      const restarted = await start(own);
      await expect(restarted.lease(product.image)).rejects.toMatchObject({
        code: 'DENIED_SERVER_ROLLBACK',
        hint: expect.stringMatching(/--after-restore/u) as string,
      });
      await running.stop();
      await restart(['--after-restore']);
      await vi.waitFor(
        async () => expect((await restarted.lease(product.image)).denial).toBeUndefined(),
        WAIT,
      );
      await vi.waitFor(() => expect(restarted.agent.watch.state.connected).toBe(true), WAIT);
      const actions = (await auditLog(adminClient(running))).map(({ action }) => action);
      expect(actions).toContain('organization.after-restore');
    } finally {
      await running.dispose();
      await rm(backup, { recursive: true, force: true });
    }
  });

  test('goes on with all nodes by itself when it was restored from a backup', async () => {
    const own = await startKeyServer({ args: await keptAddresses() });
    const data = await mkdtemp(join(tmpdir(), 'latchkey-restored-'));
    let restored: TestKeyServer | undefined;
    const latchkey = (...args: string[]) =>
      runLatchkey(['server', ...args], {
        directory: data,
        env: { LATCHKEY_SERVER: own.adminUrl, LATCHKEY_TOKEN: own.adminToken },
      });
    try {
      const product = await createSoldProduct(own);
      const { license, licenseKey } = await product.sell();
      const node = await start(own);
      await node.agent.activate(licenseKey);
      const before = await node.lease(product.image);
      const file = join(directory(), 'keys.backup');
      expect(await latchkey('backup', file)).toMatchObject({ status: 0 });
      // The node hears of more than the backup knows, and acts upon it.
      await product.client.changeLicense(license.id, 'suspend', 'unpaid');
      await vi.waitFor(() => expect(before.denial).toBeDefined(), WAIT);
      await own.stop();
      const rootKey = join(own.dataDirectory, 'root.key');
      expect(await latchkey('restore', file, '--data', data, '--root-key', rootKey)).toMatchObject({
        status: 0,
      });
      restored = await startKeyServer({
        dataDirectory: data,
        args: [
          ...['--root-key', rootKey],
          ...['--node-listen', own.nodeAddress, '--enroll-listen', own.enrollAddress],
        ],
      });
      // Without --after-restore. The suspension is gone, and the lease of before is not good again.
      await vi.waitFor(async () => {
        const after = await node.lease(product.image);
        expect(after.denial).toBeUndefined();
        expect(after.claims.epoch).toBeGreaterThan(before.claims.epoch);
      }, WAIT);
    } finally {
      await restored?.stop();
      await own.dispose();
      await rm(data, { recursive: true, force: true });
    }
  });
});

describe('the key server of another organization', () => {
  test('is no rolled-back one to a node that is activated there, nor is the first when it comes back', async () => {
    const first = await startKeyServer();
    const second = await startKeyServer();
    try {
      const theirs = await createSoldProduct(first);
      const sold = await theirs.sell();
      // So that the first is far ahead.
      await (await createSoldProduct(first)).sell();
      const node = await start(first);
      await node.agent.activate(sold.licenseKey);
      await node.lease(theirs.image);
      await vi.waitFor(() => expect(node.agent.watch.state.connected).toBe(true), WAIT);
      node.stop();

      const product = await createSoldProduct(second);
      const { license, licenseKey } = await product.sell();
      const moved = await start(second);
      await moved.agent.activate(licenseKey);
      expect((await moved.lease(product.image)).denial).toBeUndefined();
      await vi.waitFor(() => expect(moved.agent.watch.state.connected).toBe(true), WAIT);
      expect(moved.agent.identity?.licenses.map(({ licenseId }) => licenseId)).toEqual([license.id]);
      moved.stop();
      const restarted = await start(second);
      expect((await restarted.lease(product.image)).denial).toBeUndefined();
      restarted.stop();

      // Which takes it for a restored copy, as it does any node that has forgotten where it stood.
      const back = await start(first);
      await back.agent.activate(sold.licenseKey);
      await expect(back.lease(theirs.image)).rejects.toMatchObject({ code: 'DENIED_NODE_RESTORED' });
      await back.agent.activate(sold.licenseKey);
      expect((await back.lease(theirs.image)).denial).toBeUndefined();
    } finally {
      await first.dispose();
      await second.dispose();
    }
  });
});

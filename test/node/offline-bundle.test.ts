import { cp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Clock, systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { AgentService } from '#src/wire/generated/latchkey/agent.ts';
import { agentService } from '../../shim/agent/agent-service.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { serveOnSocket } from '../fakes/grpc-server.ts';
import { DAY_MS, OfflineSite, bytesOf, codeOf } from '../fakes/offline-site.ts';
import type { SoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const WAIT = { timeout: 60_000, interval: 50 };

const directory = temporaryDirectory();
let site: OfflineSite;
let sold: SoldProduct;

beforeAll(async () => {
  site = await OfflineSite.open(directory);
  ({ sold } = site);
});
afterEach(() => {
  site.stopNodes();
});
afterAll(() => site.close());

describe('a node without a line', () => {
  test('starts from what was carried to it, also after a restart, and keeps no key in the clear', async () => {
    const { node, license } = await site.startCarried('a');
    const held = await node.lease(sold.image);
    expect(held.imageKey).toEqual(Buffer.from(sold.image.imageKey));
    expect(held.statement.imageKeyId).toBe(sold.image.imageKeyId);
    expect(node.agent.identity?.licenses).toMatchObject([{ licenseId: license.id }]);
    const again = await site.restart(node, 'a');
    expect((await again.lease(sold.image)).claims.licenseId).toBe(license.id);
    const key = Buffer.from(sold.image.imageKey);
    const encodings = [
      key,
      ...(['hex', 'base64', 'base64url'] as const).map((name) => Buffer.from(key.toString(name))),
    ];
    again.stop();
    const files = await readdir(directory(), { recursive: true, withFileTypes: true });
    for (const file of files.filter((entry) => entry.isFile() && !entry.name.endsWith('.new'))) {
      const content = await readFile(join(file.parentPath, file.name));
      for (const encoding of encodings) expect(content.includes(encoding), file.name).toBe(false);
    }
  });

  test('gets no further than its bundle: other images, and the day that it ends', async () => {
    let aheadMs = 0;
    const clock: Clock = { ...systemClock, nowMs: () => Date.now() + aheadMs };
    const { node } = await site.startCarried('a', { clock, lifeMs: DAY_MS });
    expect(await codeOf(node.lease({ ...sold.image, imageKeyId: 'ik-other' }))).toBe('DENIED_LEASE_EXPIRED');
    await node.lease(sold.image);
    aheadMs = DAY_MS;
    expect(await codeOf(node.lease(sold.image))).toBe('DENIED_LEASE_EXPIRED');
    const again = await site.restart(node, 'a', { clock });
    expect(await codeOf(again.lease(sold.image))).toBe('DENIED_LEASE_EXPIRED');
  });

  test('is not fooled by a clock that is turned back, over restarts too', async () => {
    let offMs = 10 * DAY_MS;
    const clock: Clock = { ...systemClock, nowMs: () => Date.now() + offMs };
    const { node } = await site.startCarried('a', { clock });
    // Ten days on, as the wall clock says: the next ones count from there.
    await node.lease(sold.image);
    offMs = 0;
    expect(await codeOf(node.lease(sold.image))).toBe('DENIED_CLOCK_ROLLBACK');
    const again = await site.restart(node, 'a', { clock });
    expect(await codeOf(again.lease(sold.image))).toBe('DENIED_CLOCK_ROLLBACK');
    offMs = 10 * DAY_MS;
    expect(await codeOf(again.lease(sold.image))).toBe('OK');
  });

  test('goes on with an online lease first, and with its bundle when that is over', async () => {
    const { license, licenseKey } = await sold.sell({ leaseDurationMs: 1000 });
    const node = await site.start('a', { isOnline: true });
    await node.agent.activate(licenseKey);
    const file = await site.checkOut(license.id, DAY_MS, node);
    await node.agent.offline.importOffline(bytesOf(file));
    await vi.waitFor(() => expect(node.agent.watch.state.connected).toBe(true), WAIT);
    node.agent.leases.endAll(new LatchkeyError('DENIED_LEASE_INVALID', 'test'));
    expect((await node.lease(sold.image)).carried).toBeUndefined();
    const alone = await site.restart(node, 'a');
    expect((await alone.lease(sold.image)).carried).toBeDefined();
  });
});

describe('once the node hears of a revocation', () => {
  test('its bundle is void for good, whatever is put back on the disk', async () => {
    const { node, license, file } = await site.startCarried('a');
    await node.lease(sold.image);
    const identity = join(directory(), 'a', 'state', 'identity');
    const [name] = (await readdir(identity)).filter((found) => found.startsWith('offline-'));
    await cp(join(identity, name!), join(directory(), 'copy.json'));
    const online = await site.restart(node, 'a', { isOnline: true });
    await vi.waitFor(() => expect(online.agent.watch.state.connected).toBe(true), WAIT);
    const { revision } = await sold.client.changeLicense(license.id, 'revoke');
    await vi.waitFor(async () => {
      const [known] = await sold.client.licenseNodes(license.id);
      expect(known).toMatchObject({ acknowledgedRevision: revision, canStartUntilMs: null });
    }, WAIT);
    expect((await readdir(identity)).filter((found) => found.startsWith('offline-'))).toEqual([]);
    const alone = await site.restart(online, 'a');
    expect(await codeOf(alone.lease(sold.image))).toBe('DENIED_LEASE_EXPIRED');
    expect(await codeOf(alone.agent.offline.importOffline(bytesOf(file)))).toBe('DENIED_REPLAY');
    alone.stop();
    await cp(join(directory(), 'copy.json'), join(identity, name!));
    const again = await site.start('a');
    expect(again.agent.offline.bundles).toEqual([]);
    expect(await codeOf(again.lease(sold.image))).toBe('DENIED_LEASE_EXPIRED');
  });

  test('so is one that was made before and comes later', async () => {
    const { license, licenseKey } = await sold.sell();
    const node = await site.start('a', { isOnline: true });
    await node.agent.activate(licenseKey);
    const file = await site.checkOut(license.id, DAY_MS, node);
    await sold.client.changeLicense(license.id, 'suspend');
    await vi.waitFor(() => expect(node.agent.refused.denialOf(license.id)).toBeDefined(), WAIT);
    const alone = await site.restart(node, 'a');
    expect(await codeOf(alone.agent.offline.importOffline(bytesOf(file)))).toBe('DENIED_LEASE_INVALID');
  });

  test('and a ban ends bundles of before, not those of after it', async () => {
    const { node, license, bundle } = await site.startCarried('a', { isOnline: true });
    await vi.waitFor(() => expect(node.agent.watch.state.connected).toBe(true), WAIT);
    await sold.client.changeNode(bundle.claims.nodeId, 'ban');
    await vi.waitFor(() => expect(node.agent.offline.bundles).toEqual([]), WAIT);
    await sold.client.changeNode(bundle.claims.nodeId, 'unban');
    const fresh = await site.checkOut(license.id, DAY_MS, node);
    const alone = await site.restart(node, 'a');
    expect(await codeOf(alone.agent.offline.importOffline(bytesOf(fresh)))).toBe('OK');
    expect(await codeOf(alone.lease(sold.image))).toBe('OK');
  });

  test('a node that has lost its state takes no older bundle for more than it is', async () => {
    const { node } = await site.startCarried('a');
    node.stop();
    await rm(join(directory(), 'a', 'state', 'identity', 'node-state.json'));
    const forgetful = await site.start('a');
    // The bundle itself says when it was made, so the clock cannot go before that.
    expect(await codeOf(forgetful.lease(sold.image))).toBe('OK');
    await writeFile(join(directory(), 'a', 'state', 'identity', 'offline-lic_x.json'), 'nothing');
    const again = await site.restart(forgetful, 'a');
    expect(await codeOf(again.lease(sold.image))).toBe('OK');
  });
});

test('`node request`, `license check-out` and `node import` carry a license to a machine', async () => {
  const node = await site.start('a');
  const { license } = await sold.sell();
  const parts = { agent: node.agent } as Parameters<typeof agentService>[0];
  const agent = await serveOnSocket(join(directory(), 'agent.sock'), [[AgentService, agentService(parts)]]);
  try {
    const [request, bundle] = ['a.request', 'a.bundle'].map((name) => join(directory(), name));
    const latchkey = (...args: string[]) => adminCommand(site.server, ...args);
    const onNode = ['--socket', agent.socketPath];
    expect(await latchkey('node', 'request', '-o', request!, ...onNode)).toContain(
      'license check-out LICENSE',
    );
    expect(await latchkey('license', 'check-out', license.id, request!, '-o', bundle!)).toContain(
      '1 offline bundle',
    );
    expect(await latchkey('node', 'import', request!, ...onNode)).toContain(
      `INPUT_MALFORMED: ${request!} is not an offline bundle`,
    );
    expect(await latchkey('node', 'import', bundle!, ...onNode)).toMatch(
      /imported: bundle number 1 of license lic_[^]*1 image can start without the key server until /u,
    );
    expect(await latchkey('node', 'import', bundle!, ...onNode)).toMatch(
      /DENIED_REPLAY: .*refused: it is number 1/u,
    );
    expect(await latchkey('node', 'import', `${bundle!}2`, ...onNode)).toMatch(
      /STATE_NOT_FOUND: there is no file/u,
    );
    expect(await latchkey('node', 'request', '-o', request!, '--image', 'x', ...onNode)).toMatch(
      /USAGE_INVALID: .*give the digest of a manifest/u,
    );
    expect((await node.lease(sold.image)).carried).toBeDefined();
  } finally {
    agent.close();
  }
});

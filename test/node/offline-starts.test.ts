/** Starts under an offline bundle: they are counted, and with a limit there is an end to them. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { bundleStatus } from '../../shim/agent/node-status.ts';
import type { AgentNode } from '../fakes/agent-node.ts';
import { DAY_MS, OfflineSite, bytesOf, codeOf } from '../fakes/offline-site.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const WAIT = { timeout: 60_000, interval: 50 };

let site: OfflineSite;

beforeAll(async () => {
  site = await OfflineSite.open(directory);
});
afterEach(() => {
  site.stopNodes();
});
afterAll(() => site.close());

async function startLimited(maxStarts: number) {
  const node = await site.start('a');
  const { license } = await site.sold.sell();
  const file = await site.checkOut(license.id, { lifeMs: DAY_MS, maxStarts }, node);
  await node.agent.offline.importOffline(bytesOf(file));
  return { node, license, file };
}

const start = async (node: AgentNode) => (await node.lease(site.sold.image)).carried?.countStart();
const stateFile = () => join(directory(), 'a', 'state', 'identity', 'node-state.json');

/** Nothing can be written where the node keeps its state, until it is restored. */
async function blockStateFile() {
  const temporary = `${stateFile()}.new`;
  await mkdir(join(temporary, 'in-the-way'), { recursive: true });
  return { restore: () => rm(temporary, { recursive: true }) };
}

test('without a limit they are counted only', async () => {
  const { node } = await site.startCarried('a');
  for (let count = 0; count < 3; count += 1) await start(node);
  const [bundle] = node.agent.offline.bundles.map(bundleStatus);
  expect(bundle).toMatchObject({ starts: 3, maxStarts: 0 });
});

test('with a limit there are so many, over restarts, and then a refusal that says whom to ask', async () => {
  const { node, license } = await startLimited(3);
  await start(node);
  await start(node);
  const again = await site.restart(node, 'a');
  expect(again.agent.offline.bundles.map(bundleStatus)).toMatchObject([{ starts: 2, maxStarts: 3 }]);
  await start(again);
  await expect(start(again)).rejects.toMatchObject({
    code: 'DENIED_OFFLINE_STARTS',
    message: 'the offline bundle is for 3 starts of containers, and all were used',
    licenseId: license.id,
    contact: 'help@acme.example',
  });
  const last = await site.restart(again, 'a');
  expect(await codeOf(start(last))).toBe('DENIED_OFFLINE_STARTS');
  // The image key is there as before: what runs goes on, and nothing is decrypted anew for nothing.
  expect(await codeOf(last.lease(site.sold.image))).toBe('OK');
});

test('two at once do not share the last one', async () => {
  const { node } = await startLimited(1);
  const codes = await Promise.all([codeOf(start(node)), codeOf(start(node))]);
  expect(codes.toSorted()).toEqual(['DENIED_OFFLINE_STARTS', 'OK']);
});

test('under two licenses for an image the starts of both are there', async () => {
  const { node, license } = await startLimited(1);
  const other = await site.sold.sell();
  const file = await site.checkOut(other.license.id, { lifeMs: DAY_MS, maxStarts: 1 }, node);
  await node.agent.offline.importOffline(bytesOf(file));
  const lease = await node.lease(site.sold.image);
  for (let count = 0; count < 2; count += 1) {
    expect(lease.carried?.startRefusal()).toBeUndefined();
    await lease.carried?.countStart();
  }
  expect(lease.carried?.startRefusal()).toMatchObject({ code: 'DENIED_OFFLINE_STARTS' });
  const used = node.agent.offline.bundles.map(({ claims, starts }) => [claims.licenseId, starts]);
  expect(used).toEqual([
    [license.id, 1],
    [other.license.id, 1],
  ]);
});

test('the next bundle begins anew', async () => {
  const { node, license, file } = await startLimited(1);
  await start(node);
  const next = await site.checkOut(license.id, { lifeMs: DAY_MS, maxStarts: 2 }, node);
  await node.agent.offline.importOffline(bytesOf(next));
  await start(node);
  await start(node);
  expect(await codeOf(start(node))).toBe('DENIED_OFFLINE_STARTS');
  expect(await codeOf(node.agent.offline.importOffline(bytesOf(file)))).toBe('DENIED_REPLAY');
});

test('a bundle with a limit is worth nothing once the count is lost or was changed', async () => {
  const { node, file } = await startLimited(5);
  await start(node);
  const text = await readFile(stateFile(), 'utf8');
  for (const change of [
    () => rm(stateFile()),
    () => writeFile(stateFile(), text.replaceAll(String.raw`\"starts\":1`, String.raw`\"starts\":0`)),
  ]) {
    await change();
    const again = await site.restart(node, 'a');
    expect(again.agent.offline.bundles).toEqual([]);
    expect(await codeOf(start(again))).toBe('DENIED_LEASE_EXPIRED');
    // Nor does it come back by the same file, only by one for a new request.
    expect(await codeOf(again.agent.offline.importOffline(bytesOf(file)))).toBe('DENIED_LEASE_INVALID');
    again.stop();
  }
});

test('a bundle whose import was cut short between its file and its number is taken up by the next start', async () => {
  const { node, license } = await startLimited(1);
  await start(node);
  const before = await readFile(stateFile());
  const next = await site.checkOut(license.id, { lifeMs: DAY_MS, maxStarts: 2 }, node);
  await node.agent.offline.importOffline(bytesOf(next));
  node.stop();
  await writeFile(stateFile(), before);
  const again = await site.start('a');
  expect(again.agent.offline.bundles.map(bundleStatus)).toMatchObject([
    { sequence: 2, starts: 0, maxStarts: 2 },
  ]);
  await start(again);
});

test('a bundle that could not be kept changes nothing about the one before', async () => {
  const { node, license } = await startLimited(1);
  await start(node);
  const next = await site.checkOut(license.id, { lifeMs: DAY_MS, maxStarts: 2 }, node);
  const kept = await blockStateFile();
  expect(await codeOf(node.agent.offline.importOffline(bytesOf(next)))).not.toBe('OK');
  expect(await codeOf(start(node))).toBe('DENIED_OFFLINE_STARTS');
  await kept.restore();
  await node.agent.offline.importOffline(bytesOf(next));
  await start(node);
});

test('a node with a line is under leases again, and its starts are not counted', async () => {
  const { license, licenseKey } = await site.sold.sell();
  const node = await site.start('a', { isOnline: true });
  await node.agent.activate(licenseKey);
  const file = await site.checkOut(license.id, { lifeMs: DAY_MS, maxStarts: 1 }, node);
  await node.agent.offline.importOffline(bytesOf(file));
  const alone = await site.restart(node, 'a');
  await start(alone);
  expect(await codeOf(start(alone))).toBe('DENIED_OFFLINE_STARTS');
  const online = await site.restart(alone, 'a', { isOnline: true });
  // Before the line is up, as after a reboot.
  await online.lease(site.sold.image);
  await vi.waitFor(async () => expect((await online.lease(site.sold.image)).carried).toBeUndefined(), WAIT);
  expect(await codeOf(start(online))).toBe('OK');
});

test('a start that cannot be counted is refused, and none is used up by it', async () => {
  const { node } = await startLimited(1);
  const lease = await node.lease(site.sold.image);
  const kept = await blockStateFile();
  for (let count = 0; count < 3; count += 1)
    expect(await codeOf(lease.carried?.countStart() ?? Promise.resolve())).not.toBe('OK');
  await kept.restore();
  await start(node);
  expect(await codeOf(start(node))).toBe('DENIED_OFFLINE_STARTS');
});

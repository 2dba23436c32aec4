import { randomBytes } from 'node:crypto';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Clock, systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import type { ChainPosition } from '#src/wire/generated/latchkey/node.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { connectKeyServer } from '../../shim/agent/key-server.ts';
import { readMachine } from '../../shim/agent/machine.ts';
import { IdentityStore } from '../../shim/agent/node-identity.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const MINUTE_MS = 60_000;
const WAIT = { timeout: 60_000, interval: 50 };
const OTHER_MACHINE = { ...readMachine(), machine: 'another machine', boot: 'its boot' };

const directory = temporaryDirectory();
let server: TestKeyServer;
let sold: SoldProduct;
const nodes: AgentNode[] = [];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});
afterEach(() => {
  for (const node of nodes.splice(0)) node.stop();
});
afterAll(() => server.dispose());

async function start(
  name: string,
  options: Partial<Parameters<typeof AgentNode.start>[0]> = {},
): Promise<AgentNode> {
  const node = await AgentNode.start({ directory: join(directory(), name), keyServer: server, ...options });
  nodes.push(node);
  return node;
}

/** Activated, with a lease, and connected. */
async function startActivated(name = 'a', options: Parameters<typeof start>[1] = {}) {
  const node = await start(name, options);
  const created = await sold.sell({ maxNodes: 1 });
  const { identity } = await node.agent.activate(created.licenseKey);
  await node.lease(sold.image);
  await vi.waitFor(() => expect(node.agent.watch.state.connected).toBe(true), WAIT);
  return { node, nodeId: identity.nodeId, ...created };
}

/** Files come and go in the state of agents that run, or that have only just stopped; the copy is nobody else's. */
async function copyState(from: string, to: string): Promise<void> {
  await vi.waitFor(async () => {
    await rm(join(directory(), to), { recursive: true, force: true });
    await cp(join(directory(), from, 'state'), join(directory(), to, 'state'), { recursive: true });
  }, WAIT);
}

function stateFile(name = 'a'): string {
  return join(directory(), name, 'state', 'identity', 'node-state.json');
}

async function stateOf(nodeId: string): Promise<string | undefined> {
  return (await sold.client.nodes()).find(({ id }) => id === nodeId)?.state;
}

describe('a copied identity', () => {
  test.each([
    ['on the same machine', {}],
    ['on another machine', { machine: OTHER_MACHINE }],
  ])(
    '%s is found as soon as both run; both are refused until an administrator has looked',
    async (_case, options) => {
      const { node, nodeId, license, licenseKey } = await startActivated();
      await copyState('a', 'b');
      const copy = await start('b', options);
      await vi.waitFor(async () => expect(await stateOf(nodeId)).toBe('CLONED'), WAIT);
      for (const holder of [node, copy]) {
        await vi.waitFor(async () => {
          await expect(holder.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_CLONED' });
        }, WAIT);
        expect(holder.agent.leases.all().filter((lease) => holder.agent.leases.isGood(lease))).toEqual([]);
      }
      // Whoever copied the node may have the license key as well.
      await expect(node.agent.activate(licenseKey)).rejects.toMatchObject({ code: 'DENIED_NODE_CLONED' });
      const found = (await auditLog(sold.client)).filter(({ target }) => target === nodeId).at(-1);
      expect(found).toMatchObject({ action: 'node.session', outcome: 'denied', code: 'DENIED_NODE_CLONED' });
      expect((await sold.client.license(license.id)).usedNodes).toBe(1);

      copy.stop();
      expect((await sold.client.changeNode(nodeId, 'readmit')).state).toBe('ACTIVE');
      await vi.waitFor(async () => expect((await node.lease(sold.image)).denial).toBeUndefined(), WAIT);
    },
  );

  test('that goes around the session is found by an old lease, and the true node is told', async () => {
    // As far ahead as a clock may be, so that leases are renewed all the time without being near their end.
    const clock: Clock = { ...systemClock, nowMs: () => Date.now() + 4.7 * MINUTE_MS };
    const node = await start('a', { clock });
    const { licenseKey } = await sold.sell({ leaseDurationMs: 12 * MINUTE_MS });
    const { identity } = await node.agent.activate(licenseKey);
    const { leaseId: old } = (await node.lease(sold.image)).claims;
    const current = () => node.agent.leases.all()[0]?.claims.leaseId;
    for (let renewals = 0, known: string | undefined = old; renewals < 2; renewals += 1) {
      await vi.waitFor(() => expect([undefined, known]).not.toContain(current()), WAIT);
      known = current();
    }
    expect(await stateOf(identity.nodeId)).toBe('ACTIVE');
    const store = new IdentityStore(join(node.directory, 'state', 'identity'));
    const privateKeyPem = await store.privateKeyPem();
    const channel = connectKeyServer(server.nodeAddress, { ...identity, privateKeyPem });
    try {
      const request = { leaseIds: [old], nodeTimeMs: Date.now(), acceptsLeaseList: true };
      expect((await channel.renewLeases({ ...request, position: undefined })).results).toMatchObject([
        { outcome: { $case: 'denial', value: { code: 'DENIED_LEASE_CLONED' } } },
      ]);
    } finally {
      channel.close();
    }
    expect(await stateOf(identity.nodeId)).toBe('CLONED');
    await vi.waitFor(async () => {
      await expect(node.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_CLONED' });
    }, WAIT);
  });

  test('of a node that is switched off goes on in its place; only the first to come back is refused', async () => {
    const { node, nodeId } = await startActivated();
    node.stop();
    await copyState('a', 'b');
    const moved = await start('b', { machine: OTHER_MACHINE });
    expect((await moved.lease(sold.image)).denial).toBeUndefined();
    expect(await stateOf(nodeId)).toBe('ACTIVE');
    const back = await start('a');
    await expect(back.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_CLONED' });
  });
});

describe('a restored identity', () => {
  test('is refused, and mended with the license key but not with a join token', async () => {
    const { node, nodeId, license, licenseKey } = await startActivated();
    node.stop();
    await copyState('a', 'snapshot');
    const later = await start('a');
    await later.lease(sold.image);
    later.stop();
    await copyState('snapshot', 'a');
    const restored = await start('a');
    await expect(restored.lease(sold.image)).rejects.toMatchObject({
      code: 'DENIED_NODE_RESTORED',
      hint: expect.stringMatching(/with the license key/u) as string,
    });
    expect(await stateOf(nodeId)).toBe('RESTORED');
    const { token } = await sold.client.createJoinToken(license.id, {});
    await expect(restored.agent.activate(token)).rejects.toMatchObject({ code: 'DENIED_NODE_RESTORED' });
    expect((await restored.agent.activate(licenseKey)).identity.nodeId).toBe(nodeId);
    expect((await restored.lease(sold.image)).denial).toBeUndefined();
    expect(await stateOf(nodeId)).toBe('ACTIVE');
  });

  test('is one without its state too, so that deleting that gains nothing', async () => {
    const { node, nodeId } = await startActivated();
    node.stop();
    await copyState('a', 'b');
    await rm(stateFile('b'));
    const forgetful = await start('b');
    await expect(forgetful.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_RESTORED' });
    await sold.client.changeNode(nodeId, 'readmit');
    expect((await forgetful.lease(sold.image)).denial).toBeUndefined();
  });

  test('is one whose state was changed by hand', async () => {
    const { node } = await startActivated();
    node.stop();
    await copyState('a', 'b');
    await writeFile(
      stateFile('b'),
      JSON.stringify({ state: '{"revision":0,"place":{"sequence":9,"token":"x"}}', mac: '' }),
    );
    await expect((await start('b')).lease(sold.image)).rejects.toMatchObject({
      code: 'DENIED_NODE_RESTORED',
    });
  });

  test('with its memory is one, because no request counts twice', async () => {
    const { node, nodeId } = await startActivated();
    const store = new IdentityStore(join(node.directory, 'state', 'identity'));
    const credentials = { ...node.agent.identity!, privateKeyPem: await store.privateKeyPem() };
    node.stop();
    const channel = connectKeyServer(server.nodeAddress, credentials);
    const opening = { requestId: 'r', ...readMachine(), seenRevision: 0 };
    const kept = parseJson(await readFile(stateFile(), 'utf8'), 'the state') as { state: string };
    const { place } = parseJson(kept.state, 'the state') as unknown as { place: ChainPosition };
    const bootTimeMs = Math.floor(systemClock.monotonicMs());
    const { sequence, token } = await channel.openSession({
      position: { ...place, counter: 0 },
      isRunning: false,
      ...{ ...opening, bootTimeMs },
    });
    const noLeases = { leaseIds: [], nodeTimeMs: Date.now(), acceptsLeaseList: true };
    const renew = (counter: number) =>
      channel.renewLeases({ ...noLeases, position: { sequence, token, counter } });
    for (const counter of [1, 3, 2]) await renew(counter);
    await expect(renew(2)).rejects.toMatchObject({ code: 'STATE_SESSION_STALE' });
    await expect(
      channel.openSession({
        position: { sequence, token, counter: 2 },
        isRunning: true,
        ...{ ...opening, requestId: 's', bootTimeMs },
      }),
    ).rejects.toMatchObject({ code: 'DENIED_NODE_RESTORED' });
    expect(await stateOf(nodeId)).toBe('RESTORED');
    channel.close();
  });
});

describe('what happens to honest nodes', () => {
  test('is not held against them: restarts, reboots, another machine', async () => {
    const { node } = await startActivated();
    node.stop();
    let machine = readMachine();
    for (const change of [{}, { boot: 'b2' }, { boot: 'b3' }, { machine: 'm2', boot: 'b4' }, {}]) {
      machine = { ...machine, ...change };
      const again = await start('a', { machine });
      expect((await again.lease(sold.image)).denial).toBeUndefined();
      again.stop();
    }
  });

  test('many starts at once are answered, each with its own lease', async () => {
    const { node } = await startActivated();
    const images = Array.from({ length: 60 }, () => sold.image);
    node.agent.leases.endAll(new LatchkeyError('DENIED_LEASE_INVALID', 'test'));
    const held = await Promise.all(images.map((image) => node.lease(image)));
    expect(new Set(held.map(({ claims }) => claims.leaseId)).size).toBe(1);
    const others = await Promise.all(
      Array.from({ length: 60 }, () =>
        node.agent.leases
          .require({ ...sold.image, imageKeyId: `ik-${randomBytes(4).toString('hex')}` }, undefined)
          .then(
            () => 'a lease',
            (error: unknown) => (error as { code: string }).code,
          ),
      ),
    );
    expect(new Set(others)).toEqual(new Set(['DENIED_KEY_UNAVAILABLE']));
  });
});

describe('retirement', () => {
  test('frees the seat, ends leases and stream, and leaves the machine free to enrol anew', async () => {
    const { node, nodeId, license, licenseKey } = await startActivated();
    expect((await sold.client.changeNode(nodeId, 'retire')).licenseIds).toEqual([]);
    await vi.waitFor(async () => {
      await expect(node.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_RETIRED' });
    }, WAIT);
    expect((await sold.client.license(license.id)).usedNodes).toBe(0);
    await expect(sold.client.changeNode(nodeId, 'readmit')).rejects.toMatchObject({
      code: 'STATE_PRECONDITION',
    });
    await node.agent.activate(licenseKey);
    expect((await node.lease(sold.image)).denial).toBeUndefined();
    expect((await sold.client.license(license.id)).usedNodes).toBe(1);
  });

  test('of a banned node is refused, because it would end the ban', async () => {
    const { node, nodeId, licenseKey } = await startActivated();
    await sold.client.changeNode(nodeId, 'ban');
    await expect(sold.client.changeNode(nodeId, 'retire')).rejects.toMatchObject({
      code: 'STATE_PRECONDITION',
    });
    await vi.waitFor(async () => {
      await expect(node.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
    }, WAIT);
    await sold.client.changeNode(nodeId, 'unban');
    await node.agent.activate(licenseKey);
    expect((await node.lease(sold.image)).denial).toBeUndefined();
  });
});

describe('a clock that is turned back', () => {
  test('stops starts also under a good lease, ends nothing, and is remembered over a restart', async () => {
    let offMs = 0;
    const clock: Clock = { ...systemClock, nowMs: () => Date.now() + offMs };
    const { node } = await startActivated('a', { clock });
    const ROLLBACK = { code: 'DENIED_CLOCK_ROLLBACK', contact: 'help@acme.example' };
    offMs = -3_600_000;
    await expect(node.lease(sold.image)).rejects.toMatchObject(ROLLBACK);
    expect(node.agent.leases.all().every((lease) => lease.denial === undefined)).toBe(true);
    node.stop();
    const again = await start('a', { clock });
    await expect(again.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_CLOCK_ROLLBACK' });
    offMs = 0;
    expect((await again.lease(sold.image)).denial).toBeUndefined();
  });
});

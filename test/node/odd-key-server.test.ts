/** A key server that is slow, away, or answers nonsense: nothing starts that should not, and what may start goes on. */
import { randomBytes } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { readMachine } from '../../shim/agent/machine.ts';
import { parseJson } from '#src/base/json.ts';
import { systemClock } from '#src/base/clock.ts';
import { MAX_REMEMBERED_LICENSES } from '#src/base/limits.ts';
import {
  AcquireLeaseResponse,
  type ChainPosition,
  WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LineMood, TcpProxy } from '../../lab/tcp-proxy.ts';

import { IdentityStore, type NodeIdentity } from '../../shim/agent/node-identity.ts';
import { connectKeyServer } from '../../shim/agent/key-server.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { ScriptedKeyServer } from '../fakes/scripted-key-server.ts';
import {
  type RegisteredImage,
  type SoldProduct,
  createSoldProduct,
  registerImage,
} from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const WAIT = { timeout: 60_000, interval: 50 };
const MEBIBYTE = 1024 * 1024;

const directory = temporaryDirectory();
let server: TestKeyServer;
let sold: SoldProduct;
const closers: (() => void)[] = [];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});
afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
});
afterAll(() => server.dispose());

async function startNode(nodeAddress: string, name: string): Promise<AgentNode> {
  const keyServer = { ...server, nodeAddress };
  const node = await AgentNode.start({ directory: join(directory(), name), keyServer });
  closers.push(() => {
    node.stop();
  });
  return node;
}

describe('behind a line', () => {
  const moods: LineMood[] = ['silent', 'garbage', 'http1', 'closing'];

  test.each(moods)(
    'that is %s, starts with a lease go on, others are refused, and it comes back',
    async (mood) => {
      const line = await TcpProxy.start(server.nodeAddress);
      closers.push(() => {
        line.close();
      });
      const node = await startNode(line.address, mood);
      await node.agent.activate((await sold.sell()).licenseKey);
      const held = await node.lease(sold.image);
      const other = await registerImage(sold.client, sold.productCode);
      line.change(mood);
      const refused = node.lease(other).catch((error: unknown) => error);
      // Nobody is asked, so that nobody can keep it waiting.
      expect(await node.lease(sold.image)).toBe(held);
      expect(await refused).toMatchObject({
        code: 'DENIED_LEASE_EXPIRED',
        message: 'no lease (key server unreachable)',
      });
      expect(node.agent.leases.isGood(held)).toBe(true);
      line.change('passing');
      await vi.waitFor(async () => {
        expect((await node.lease(other)).denial).toBeUndefined();
      }, WAIT);
      await vi.waitFor(() => {
        expect(node.agent.watch.state.connected).toBe(true);
      }, WAIT);
    },
  );
});

test('one that cannot prove who it is is not called unreachable, neither to the operator nor to a start', async () => {
  const foreign = await startKeyServer();
  closers.push(() => void foreign.dispose());
  const { licenseKey } = await sold.sell();
  const trusting = { ...server, authorityPem: foreign.authorityPem };
  const node = await AgentNode.start({ directory: join(directory(), 'n'), keyServer: trusting });
  closers.push(() => {
    node.stop();
  });
  await expect(node.agent.activate(licenseKey)).rejects.toMatchObject({
    code: 'NET_TLS',
    message: expect.stringContaining('self-signed certificate') as string,
    hint: expect.stringContaining('authority.pem') as string,
  });
  node.stop();
  const activated = await startNode(server.nodeAddress, 'n');
  await activated.agent.activate(licenseKey);
  activated.stop();
  const misled = await startNode(foreign.nodeAddress, 'n');
  await expect(misled.lease(sold.image)).rejects.toMatchObject({
    code: 'DENIED_LEASE_EXPIRED',
    message: expect.stringMatching(/^no lease \(.* was reached, but not by trusted TLS/u) as string,
  });
});

test('an answer that is lost is asked for again: the node gets the lease that it was given', async () => {
  const line = await TcpProxy.start(server.nodeAddress);
  closers.push(() => {
    line.close();
  });
  const node = await startNode(line.address, 'deaf');
  const { license, licenseKey } = await sold.sell();
  await node.agent.activate(licenseKey);
  await vi.waitFor(() => {
    expect(node.agent.watch.state.connected).toBe(true);
  }, WAIT);
  // The session is open, so that the question goes through and only the answer is lost.
  await node.lease(await registerImage(sold.client, sold.productCode));
  line.change('deaf');
  await expect(node.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_LEASE_EXPIRED' });
  const given = await vi.waitFor(async () => {
    const leases = await sold.client.leases({ license: license.id });
    const found = leases.find(({ imageDigest }) => imageDigest === sold.image.imageDigest);
    expect(found).toBeDefined();
    return found!;
  }, WAIT);
  line.change('passing');
  await vi.waitFor(async () => {
    expect((await node.lease(sold.image)).claims.leaseId).toBe(given.id);
  }, WAIT);
  expect(await sold.client.leases({ license: license.id })).toHaveLength(2);
});

describe('with a good certificate and nonsense to say', () => {
  let scripted: ScriptedKeyServer;
  let node: AgentNode;
  let good: AcquireLeaseResponse;

  /** Activated with the true key server, then led to another that answers for it. */
  async function misled(name: string): Promise<void> {
    const first = await startNode(server.nodeAddress, name);
    const { identity } = await first.agent.activate((await sold.sell()).licenseKey);
    [good] = await leasesFor(first, identity, [sold.image]);
    scripted = await ScriptedKeyServer.start();
    scripted.revision = good.revision;
    closers.push(() => {
      scripted.close();
    });
    await store(first).save({ ...identity, authorityPem: scripted.authorityPem });
    node = await startNode(scripted.address, name);
  }

  function store(of: AgentNode): IdentityStore {
    return new IdentityStore(join(of.directory, 'state', 'identity'));
  }

  /** As the key server answers that node, whose agent ends here: another would be out of step with its session. */
  async function leasesFor(
    of: AgentNode,
    identity: NodeIdentity,
    images: readonly RegisteredImage[],
  ): Promise<[AcquireLeaseResponse, ...AcquireLeaseResponse[]]> {
    await vi.waitFor(() => {
      expect(of.agent.watch.state.connected).toBe(true);
    }, WAIT);
    of.stop();
    const privateKeyPem = await store(of).privateKeyPem();
    const channel = connectKeyServer(server.nodeAddress, { ...identity, privateKeyPem });
    try {
      const kept = parseJson(
        await readFile(join(of.directory, 'state', 'identity', 'node-state.json'), 'utf8'),
        'the state',
      ) as { state: string };
      const { place } = parseJson(kept.state, 'the state') as unknown as { place?: ChainPosition };
      const { sequence, token } = await channel.openSession({
        position: { sequence: 0, token: '', ...place, counter: 0 },
        isRunning: false,
        requestId: randomBytes(8).toString('hex'),
        ...readMachine(),
        seenRevision: 0,
        bootTimeMs: Math.floor(systemClock.monotonicMs()),
      });
      const answers: AcquireLeaseResponse[] = [];
      for (const { imageDigest, imageKeyId } of images) {
        const position = { sequence, token, counter: answers.length + 1 };
        const nonce = randomBytes(16);
        const request = { imageDigest, imageKeyId, nonce, nodeTimeMs: Date.now(), position };
        answers.push(await channel.acquireLease(request));
      }
      return answers as [AcquireLeaseResponse, ...AcquireLeaseResponse[]];
    } finally {
      channel.close();
    }
  }

  function answer(changes: Partial<AcquireLeaseResponse>): Buffer {
    return Buffer.from(
      AcquireLeaseResponse.encode({ ...good, ...changes, revision: good.revision }).finish(),
    );
  }

  function flipped(text: string): string {
    const place = text.length - 10;
    return `${text.slice(0, place)}${text[place] === 'A' ? 'B' : 'A'}${text.slice(place + 1)}`;
  }

  test('it gets no lease held that is not whole, ours and for the image', async () => {
    await misled('nonsense');
    const stranger = await startNode(server.nodeAddress, 'stranger');
    const { identity } = await stranger.agent.activate((await sold.sell()).licenseKey);
    const otherImage = await registerImage(sold.client, sold.productCode);
    const [strange, other] = await leasesFor(stranger, identity, [sold.image, otherImage]);
    const answers: Readonly<Record<string, Buffer>> = {
      'random bytes': randomBytes(2000),
      'no bytes': Buffer.alloc(0),
      'more than a message may have': Buffer.concat([answer({}), Buffer.alloc(8 * MEBIBYTE)]),
      'no lease': answer({ lease: '' }),
      'a long lease': answer({ lease: 'a.b.'.padEnd(MEBIBYTE, 'c') }),
      'another signature': answer({ lease: flipped(good.lease) }),
      'a lease of another node': answer(strange),
      'the key of another node': answer({ imageKeyJwe: strange.imageKeyJwe }),
      'a key that is none': answer({ imageKeyJwe: 'a.b.c.d.e' }),
      'a key with one changed character': answer({ imageKeyJwe: flipped(good.imageKeyJwe) }),
      'no statement': answer({ statement: Buffer.alloc(0) }),
      'a statement that is none': answer({ statement: randomBytes(500) }),
      'a lease for another image': answer(other ?? {}),
    };
    for (const [name, bytes] of Object.entries(answers)) {
      scripted.answers.acquireLease = bytes;
      const outcome = await node.lease(sold.image).then(
        (lease) => (node.agent.leases.isGood(lease) ? 'a good lease' : 'a lease that is over'),
        (error: unknown) => (error as { code: string }).code,
      );
      expect(outcome, name).toMatch(/^DENIED_|^a lease that is over$/u);
    }
    scripted.answers.acquireLease = answer({});
    expect(node.agent.leases.isGood(await node.lease(sold.image))).toBe(true);
  });

  test('it does not fill the memory with changes without end, and still hears the one that counts', async () => {
    await misled('flooded');
    scripted.answers.acquireLease = answer({});
    const held = await node.lease(sold.image);
    const { licenseId } = held.claims;
    const change = (id: string, epoch: number): Buffer =>
      Buffer.from(
        WatchRevocationsResponse.encode({
          revision: good.revision + epoch,
          serverTimeMs: Date.now(),
          event: {
            $case: 'licenseChange',
            value: {
              licenseId: id,
              epoch,
              state: 'REVOKED',
              denial: { code: 'DENIED_LICENSE_REVOKED', message: 'gone', licenseId: id, contact: '' },
            },
          },
        }).finish(),
      );
    const COUNT = 3 * MAX_REMEMBERED_LICENSES;
    scripted.watch((stream) => {
      for (let index = 0; index < COUNT; index += 1)
        stream.write(change(`lic-${index}-${'x'.repeat(1000)}`, index + 1));
    });
    await vi.waitFor(() => {
      expect(node.agent.watch.state.revision).toBe(good.revision + COUNT);
    }, WAIT);
    expect(node.agent.leases.isGood(held)).toBe(true);
    expect(node.agent.refused.all().length).toBeLessThanOrEqual(MAX_REMEMBERED_LICENSES);
    scripted.revision = good.revision + COUNT;
    scripted.watch((stream) => stream.write(change(licenseId, COUNT + 1)));
    await vi.waitFor(() => {
      expect(held.denial).toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
    }, WAIT);
    node.stop();
    // What it has heard is still on its way into its state file.
    const stateFile = join(node.directory, 'state', 'identity', 'node-state.json');
    const settled = async (): Promise<boolean> => {
      const before = (await stat(stateFile)).mtimeMs;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return (await stat(stateFile)).mtimeMs === before;
    };
    while (!(await settled()));
  });
});

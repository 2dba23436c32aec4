/** A key server that is slow, away, or answers nonsense: nothing starts that should not, and what may start goes on. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { MAX_REMEMBERED_LICENSES } from '#src/base/limits.ts';
import { AcquireLeaseResponse, WatchRevocationsResponse } from '#src/wire/generated/latchkey/node.ts';
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
      const refused = node.lease(other);
      // Nobody is asked, so that nobody can keep it waiting.
      expect(await node.lease(sold.image)).toBe(held);
      await expect(refused).rejects.toMatchObject({
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

describe('with a good certificate and nonsense to say', () => {
  let scripted: ScriptedKeyServer;
  let node: AgentNode;
  let good: AcquireLeaseResponse;

  /** Activated with the true key server, then led to another that answers for it. */
  async function misled(name: string): Promise<void> {
    const first = await startNode(server.nodeAddress, name);
    const { identity } = await first.agent.activate((await sold.sell()).licenseKey);
    good = await leaseFor(first, identity);
    first.stop();
    scripted = await ScriptedKeyServer.start();
    closers.push(() => {
      scripted.close();
    });
    await store(first).save({ ...identity, authorityPem: scripted.authorityPem });
    node = await startNode(scripted.address, name);
  }

  function store(of: AgentNode): IdentityStore {
    return new IdentityStore(join(of.directory, 'state', 'identity'));
  }

  /** As the key server answers that node. */
  async function leaseFor(
    of: AgentNode,
    identity: NodeIdentity,
    image: RegisteredImage = sold.image,
  ): Promise<AcquireLeaseResponse> {
    const privateKeyPem = await store(of).privateKeyPem();
    const channel = connectKeyServer(server.nodeAddress, { ...identity, privateKeyPem });
    try {
      const { imageDigest, imageKeyId } = image;
      return await channel.acquireLease({
        imageDigest,
        imageKeyId,
        nonce: randomBytes(16),
        nodeTimeMs: Date.now(),
        position: undefined,
      });
    } finally {
      channel.close();
    }
  }

  function answer(changes: Partial<AcquireLeaseResponse>): Buffer {
    return Buffer.from(AcquireLeaseResponse.encode({ ...good, ...changes }).finish());
  }

  function flipped(text: string): string {
    const place = text.length - 10;
    return `${text.slice(0, place)}${text[place] === 'A' ? 'B' : 'A'}${text.slice(place + 1)}`;
  }

  test('it gets no lease held that is not whole, ours and for the image', async () => {
    await misled('nonsense');
    const stranger = await startNode(server.nodeAddress, 'stranger');
    const { identity } = await stranger.agent.activate((await sold.sell()).licenseKey);
    const strange = await leaseFor(stranger, identity);
    const otherImage = await registerImage(sold.client, sold.productCode);
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
      'a lease for another image': answer(await leaseFor(stranger, identity, otherImage)),
      'a time far in the future': answer({ serverTimeMs: Number.MAX_SAFE_INTEGER }),
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
          revision: epoch,
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
    await new Promise<void>((resolve) => {
      scripted.onWatch = (stream) => {
        void (async () => {
          for (let index = 0; index < COUNT; index += 1) {
            if (!stream.write(change(`lic-${index}-${'x'.repeat(1000)}`, index + 1)))
              await new Promise((drained) => stream.once('drain', drained));
          }
          stream.write(Buffer.from([0xff, 0xff, 0xff]));
          stream.end();
          resolve();
        })();
      };
    });
    expect(node.agent.leases.isGood(held)).toBe(true);
    expect(node.agent.refused.all().length).toBeLessThanOrEqual(MAX_REMEMBERED_LICENSES);
    scripted.onWatch = (stream) => stream.write(change(licenseId, COUNT + 1));
    await vi.waitFor(async () => {
      await expect(node.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
    }, WAIT);
  });
});

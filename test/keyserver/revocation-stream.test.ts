import { EventEmitter } from 'node:events';

import { Metadata } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WatchRevocationsResponse } from '#src/wire/generated/latchkey/node.ts';
import { callUnary } from '#src/wire/unary.ts';
import { ChangeReader } from '../../keyserver/domain/change-reader.ts';
import { type KeyServer } from '../../keyserver/domain/key-server.ts';
import { resumeRevisionsOf } from '../../keyserver/domain/license-changes.ts';
import { OpenStreams } from '../../keyserver/grpc/revocation-stream.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode, connectNode, createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
const nodes: LicensedNode[] = [];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  for (const node of nodes) node.close();
  await server.dispose();
});

/** One node with several licenses of one customer. */
async function nodeWithLicenses(count: number): Promise<{ node: LicensedNode; licenseIds: string[] }> {
  const key = await createNodeKey();
  const licenseIds: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const { license, licenseKey } = await sold.sell();
    nodes.push(await activateNode(server, licenseKey, { key }));
    licenseIds.push(license.id);
  }
  return { node: nodes.at(-1)!, licenseIds };
}

function watch(node: Pick<LicensedNode, 'client'>, afterRevision: number) {
  const stream = node.client.watchRevocations({ afterRevision, position: undefined });
  const messages: WatchRevocationsResponse[] = [];
  const ended = new Promise<unknown>((resolve) => stream.once('error', resolve));
  stream.on('data', (message: WatchRevocationsResponse) => messages.push(message));
  return { stream, messages, ended };
}

const licenseIdsOf = (messages: readonly WatchRevocationsResponse[]) =>
  messages.flatMap(({ event }) => (event?.$case === 'licenseChange' ? [event.value.licenseId] : [])).sort();

describe('a watcher that is cut off', () => {
  it.each([
    ['a blocked customer', (): Promise<unknown> => sold.client.changeCustomer(sold.customerId, 'block')],
    [
      'a banned node',
      (node: LicensedNode): Promise<unknown> => sold.client.changeNode(node.activation.nodeId, 'ban'),
    ],
  ])('after any message about %s hears the rest when it comes back', async (_name, change) => {
    const { node, licenseIds } = await nodeWithLicenses(3);
    const { revision } = await sold.client.organization();
    await change(node);
    const first = watch(node, revision);
    await expect.poll(() => licenseIdsOf(first.messages).length).toBe(3);
    first.stream.cancel();
    for (const heard of [1, 2, 3]) {
      const again = watch(node, first.messages[heard - 1]!.revision);
      again.stream.on('error', () => undefined);
      // A ban ends the stream; a block does not, so the heartbeat marks the end of the replay.
      await expect
        .poll(() => {
          const told = [...first.messages.slice(0, heard), ...again.messages];
          return new Set(licenseIdsOf(told));
        })
        .toEqual(new Set(licenseIds));
      again.stream.cancel();
    }
    await sold.client.changeCustomer(sold.customerId, 'unblock');
  });

  it('misses nothing wherever it is cut (property)', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(6), { minLength: 1, maxLength: 12 }),
        fc.nat(3),
        fc.nat(20),
        (steps, quiet, cut) => {
          const revisions = steps.map((revision) => revision + 1).sort((a, b) => a - b);
          const current = revisions.at(-1)! + quiet;
          const told = resumeRevisionsOf(revisions, current);
          const last = cut % revisions.length;
          const missed = revisions.slice(last + 1);
          expect(missed.every((revision) => revision > told[last]!)).toBe(true);
          expect(told).toEqual([...told].sort((a, b) => a - b));
          expect(told.at(-1)).toBe(current);
        },
      ),
    );
  });

  it('hears nothing from a server that was restored from a backup but that it was', async () => {
    const { node } = await nodeWithLicenses(2);
    const { revision } = await sold.client.organization();
    const { ended, messages } = watch(node, revision + 1000);
    expect(await ended).toMatchObject({
      details: expect.stringMatching(/^DENIED_SERVER_ROLLBACK/u) as string,
    });
    expect(messages).toEqual([]);
  });
});

describe('many who ask in one moment', () => {
  const AT_ONCE = 200;

  async function changesOf(node: LicensedNode, afterRevision: number): Promise<string[]> {
    const request = { afterRevision, position: undefined };
    const listChanges = node.client.listChanges.bind(node.client);
    const { changes } = await callUnary(listChanges, request, new Metadata(), {
      deadline: Date.now() + 60_000,
    });
    return changes.map(({ licenseId, state }) => `${licenseId} ${state}`).sort();
  }

  it('hear each of its own licenses, and only what is new to him', async () => {
    const [two, one] = [await nodeWithLicenses(2), await nodeWithLicenses(1)];
    const { revision } = await sold.client.organization();
    const [first, second] = two.licenseIds;
    await sold.client.changeLicense(first!, 'suspend');
    const expected = [
      { asks: () => changesOf(two.node, revision), hears: [`${first!} SUSPENDED`] },
      { asks: () => changesOf(two.node, 0), hears: [`${first!} SUSPENDED`, `${second!} ACTIVE`].sort() },
      { asks: () => changesOf(one.node, revision), hears: [] },
      { asks: () => changesOf(one.node, 0), hears: [`${one.licenseIds[0]!} ACTIVE`] },
    ];
    const questions = Array.from({ length: AT_ONCE }, (_, index) => expected[index % expected.length]!);
    const answers = await Promise.all(questions.map(({ asks }) => asks()));
    expect(answers).toEqual(questions.map(({ hears }) => hears));
  });
});

describe('open streams', () => {
  it.each([
    ['the same connection', (node: LicensedNode) => node.client],
    [
      'another connection',
      (node: LicensedNode) => connectNode(server, node.key, node.activation.certificateDer),
    ],
  ])('are one for each node: a new one over %s ends the old', async (_name, connect) => {
    const { node } = await nodeWithLicenses(1);
    const { revision } = await sold.client.organization();
    const old = watch(node, revision);
    await expect.poll(() => old.messages.length).toBe(1);
    const client = connect(node);
    const fresh = watch({ client }, revision);
    expect(await old.ended).toMatchObject({ details: expect.stringContaining('STATE_CONFLICT') as string });
    await sold.client.changeNode(node.activation.nodeId, 'ban');
    expect(await fresh.ended).toMatchObject({
      details: expect.stringContaining('DENIED_NODE_BANNED') as string,
    });
    client.close();
  });

  it('are not made for a call that was cancelled while its certificate was read', () => {
    let subscriptions = 0;
    const changes = {
      subscribe: () => {
        subscriptions += 1;
        return () => undefined;
      },
    };
    const keyServer = { changes } as unknown as KeyServer;
    const streams = new OpenStreams(keyServer, new ChangeReader(keyServer), () => undefined);
    const call = Object.assign(new EventEmitter(), { cancelled: true, request: { afterRevision: 0 } });
    streams.open(call as unknown as Parameters<OpenStreams['open']>[0], {
      nodeId: 'n',
      keyThumbprint: 't',
      expiresAtMs: 0,
    });
    expect(subscriptions).toBe(0);
  });
});

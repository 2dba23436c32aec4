/** What a node certificate is worth after the handshake: on calls, on streams, and beside those of other authorities. */
import { generateKeyPair, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createAuthority,
  issueNodeCertificate,
  issueTlsCertificate,
  parseNodeRequest,
} from '../../keyserver/custody/certificate-authority.ts';
import type { NodesClient } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { databaseKind } from '../../lab/server-database.ts';
import {
  LicensedNode,
  type NodeKey,
  activateNode,
  connectNode,
  createNodeKey,
} from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

/** Ends before the first heartbeat of a stream, and leaves time to connect on a machine that is busy. */
const CERTIFICATE_LIFE_MS = 14_000;
/** By the time the refusal has arrived, a client may or may not think that it is connected. */
const NOT_CONNECTED = { code: expect.stringMatching(/^NET_(TLS|UNREACHABLE)$/) as string };
const NOT_ACTIVATED = { code: 'DENIED_NODE_NOT_ACTIVATED' };

let server: TestKeyServer;
let sold: SoldProduct;
const open: { close(): void }[] = [];

beforeAll(async () => {
  server = await startKeyServer({ args: ['--node-certificate-life', `${CERTIFICATE_LIFE_MS / 1000}s`] });
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  for (const node of open) node.close();
  await server.dispose();
});

async function newNode(): Promise<LicensedNode> {
  const node = await activateNode(server, (await sold.sell()).licenseKey);
  open.push(node);
  return node;
}

function connect(key: NodeKey, certificateDer: Uint8Array): NodesClient {
  const client = connectNode(server, key, certificateDer);
  open.push(client);
  return client;
}

/** Opens a stream; `connected` resolves with its first message, `ended` with what ended it. */
function watch(client: NodesClient, position?: { sequence: number; token: string; counter: number }) {
  const stream = client.watchRevocations({ afterRevision: 0, position });
  const ended = new Promise<unknown>((resolve) =>
    stream.once('error', (error) => {
      resolve(fromGrpcError(error, 'key server'));
    }),
  );
  const connected = new Promise<void>((resolve) => {
    stream.on('data', () => {
      resolve();
    });
  });
  return { connected, ended };
}

async function call<Answer>(answer: Promise<Answer>): Promise<Answer> {
  try {
    return await answer;
  } catch (error) {
    throw fromGrpcError(error, 'key server');
  }
}

const options = () => ({ deadline: Date.now() + 60_000 });

function openSession(client: NodesClient) {
  const request = {
    ...{ isRunning: false, requestId: randomBytes(16).toString('hex'), machine: 'm', boot: 'b' },
    ...{ bootTimeMs: 1, seenRevision: 0, position: undefined },
  };
  return call(callUnary(client.openSession.bind(client), request, new Metadata(), options()));
}

function rotate(client: NodesClient, certificateRequestDer: Buffer) {
  const request = { certificateRequestDer, nodeTimeMs: Date.now() };
  return call(callUnary(client.rotateCertificate.bind(client), request, new Metadata(), options()));
}

// 14 seconds of waiting that no database could change.
describe.each(databaseKind() === 'SQLite' ? ['ends'] : [])(
  'a certificate that %s while its connection stays',
  () => {
    it('ends the stream by itself and is worth nothing for further calls, while the next one is good', async () => {
      const node = await newNode();
      const stream = watch(node.client);
      await stream.connected;
      await node.acquire(sold.image);
      // Late, so that the next certificate outlives the first by a good part of its life.
      await new Promise((resolve) => setTimeout(resolve, CERTIFICATE_LIFE_MS / 2));
      const next = await rotate(node.client, node.key.requestDer);
      const { certificateDer } = next;
      const renewed = new LicensedNode(server, node.key, { ...node.activation, certificateDer });
      open.push(renewed);
      // Its answer could have been lost: until it ends, the one before is good too.
      await node.acquire(sold.image);
      expect(await stream.ended).toMatchObject(NOT_ACTIVATED);
      expect(Date.now()).toBeGreaterThanOrEqual(node.activation.certificateExpiresAtMs);
      await expect(node.acquire(sold.image)).rejects.toMatchObject(NOT_ACTIVATED);
      await expect(node.renew(['lease_x'])).rejects.toMatchObject(NOT_ACTIVATED);
      await expect(openSession(node.client)).rejects.toMatchObject(NOT_ACTIVATED);
      await expect(rotate(node.client, node.key.requestDer)).rejects.toMatchObject(NOT_ACTIVATED);
      expect(await watch(node.client).ended).toMatchObject(NOT_ACTIVATED);
      // A new connection does not come about at all.
      expect(await watch(connect(node.key, node.activation.certificateDer)).ended).toMatchObject(
        NOT_CONNECTED,
      );
      await renewed.acquire(sold.image);
    });
  },
);

describe('a connection that a newer session of its node has taken over', () => {
  it('loses its stream at once, and gets nothing more', async () => {
    const node = await newNode();
    const before = await openSession(node.client);
    const position = { sequence: before.sequence, token: before.token, counter: 1 };
    const stream = watch(node.client, position);
    await stream.connected;
    const later = connect(node.key, node.activation.certificateDer);
    const request = {
      ...{ isRunning: false, requestId: 'later', machine: 'm', boot: 'b', bootTimeMs: 2, seenRevision: 0 },
      position: { ...position, counter: 0 },
    };
    await call(callUnary(later.openSession.bind(later), request, new Metadata(), options()));
    expect(await stream.ended).toMatchObject({ code: 'STATE_SESSION_STALE' });
    await expect(node.acquire(sold.image)).rejects.toMatchObject({ code: 'STATE_SESSION_STALE' });
    expect(await watch(node.client, position).ended).toMatchObject({ code: 'STATE_SESSION_STALE' });
  });
});

describe('an open stream', () => {
  it.each([
    ['ban', 'DENIED_NODE_BANNED'],
    ['retire', 'DENIED_NODE_RETIRED'],
  ] as const)('ends with a %s, and so does every other call', async (action, code) => {
    const node = await newNode();
    const stream = watch(node.client);
    await stream.connected;
    await sold.client.changeNode(node.activation.nodeId, action);
    expect(await stream.ended).toMatchObject({ code });
    await expect(node.acquire(sold.image)).rejects.toMatchObject({ code });
    await expect(rotate(node.client, node.key.requestDer)).rejects.toMatchObject({ code });
    expect(await watch(node.client).ended).toMatchObject({ code });
  });
});

describe('a certificate that this authority has not made', () => {
  const term = () => ({ nowMs: Date.now(), lifetimeMs: 60_000 });

  async function foreignAuthority() {
    const pair = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' });
    const authorityCertificate = await createAuthority('Other', pair, Date.now());
    return { authorityCertificate, authorityKey: pair.privateKey };
  }

  it('does not connect, whatever node it names', async () => {
    const { key, activation } = await newNode();
    const other = await foreignAuthority();
    const request = await parseNodeRequest(key.requestDer);
    const { der } = await issueNodeCertificate(other, request, activation.nodeId, term());
    expect(await watch(connect(key, der)).ended).toMatchObject(NOT_CONNECTED);
  });

  it('does not connect when a node has signed it with its own certificate', async () => {
    const [thief, victim] = [await newNode(), await newNode()];
    const asAuthority = {
      authorityCertificate: new Uint8Array(thief.activation.certificateDer),
      authorityKey: thief.key.privateKey,
    };
    const key = await createNodeKey();
    const node = { nodeId: victim.activation.nodeId, keyThumbprint: 'x'.repeat(43) };
    const { der } = await issueTlsCertificate(
      asAuthority,
      await parseNodeRequest(key.requestDer),
      node,
      term(),
    );
    expect(await watch(connect(key, der)).ended).toMatchObject(NOT_CONNECTED);
  });
});

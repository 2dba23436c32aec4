import { Metadata } from '@grpc/grpc-js';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { LicenseNode } from '#src/wire/admin/node.ts';
import type { ChainPosition } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { type LicensedNode, activateNode, connectNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const WAIT = { timeout: 60_000, interval: 50 };

const directory = temporaryDirectory();
let server: TestKeyServer;
let sold: SoldProduct;
let licenseId: string;
let licenseKey: string;
let silent: LicensedNode;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  const { license, licenseKey: key } = await sold.sell();
  [licenseId, licenseKey] = [license.id, key];
  silent = await activateNode(server, licenseKey, { name: 'silent' });
});

afterAll(async () => {
  silent.close();
  await server.dispose();
});

async function nodeOf(name: string): Promise<LicenseNode | undefined> {
  return (await sold.client.licenseNodes(licenseId)).find((node) => node.name === name);
}

async function acknowledge(
  node: Pick<LicensedNode, 'client'>,
  revision: number,
  position?: ChainPosition,
): Promise<string> {
  const { client } = node;
  return callUnary(client.acknowledgeRevocations.bind(client), { revision, position }, new Metadata(), {
    deadline: Date.now() + 60_000,
  }).then(
    () => 'OK',
    (error: unknown) => fromGrpcError(error, 'key server').code,
  );
}

describe('a change of a license', () => {
  test('is acknowledged by the nodes that act upon it, and the others are shown as silent', async () => {
    const lease = decodeJwt<LeaseClaims>((await silent.acquire(sold.image)).lease);
    const node = await AgentNode.start({ directory: directory(), keyServer: server });
    try {
      await node.agent.activate(licenseKey);
      await node.lease(sold.image);
      for (const action of ['suspend', 'reinstate', 'revoke'] as const) {
        const { revision } = await sold.client.changeLicense(licenseId, action);
        await vi.waitFor(
          async () =>
            expect(await nodeOf('agent-node')).toMatchObject({
              hasAcknowledged: true,
              acknowledgedRevision: revision,
            }),
          WAIT,
        );
      }
      expect(node.agent.leases.all().every(({ denial }) => denial?.code === 'DENIED_LICENSE_REVOKED')).toBe(
        true,
      );
      // There is no containerd: nothing was reported, the acknowledgement alone says that it starts nothing.
      expect(await nodeOf('agent-node')).toMatchObject({ canStartUntilMs: null, report: null });
    } finally {
      node.stop();
    }
    expect(await nodeOf('silent')).toMatchObject({
      hasAcknowledged: false,
      acknowledgedRevision: null,
      canStartUntilMs: lease.expiresAtMs,
      lastContactMs: lease.issuedAtMs,
    });
    // Every node says it, in whichever way it was heard.
    const [heard, cutOff] = [await nodeOf('agent-node'), await nodeOf('silent')];
    expect(heard?.acknowledgedAtMs).toBeGreaterThan(0);
    for (const { id, lastContactMs } of [heard!, cutOff!]) {
      expect((await sold.client.node(id)).lastContactAtMs).toBe(lastContactMs);
    }
    const { revision } = await sold.client.license(licenseId);
    const text = await adminCommand(server, 'license', 'nodes', licenseId);
    expect(text).toMatch(
      new RegExp(
        `^revoked at revision ${revision}; 1 of 2 nodes have acknowledged, .*; 1 silent, can start until`,
        'u',
      ),
    );
    expect(text).toMatch(new RegExp(`agent-node +ACTIVE +revision ${revision} `, 'u'));
  });
});

describe('an acknowledgement', () => {
  test('never goes back', async () => {
    const { revision } = await sold.client.organization();
    expect(await acknowledge(silent, revision)).toBe('OK');
    expect(await acknowledge(silent, revision - 1)).toBe('OK');
    expect(await nodeOf('silent')).toMatchObject({ acknowledgedRevision: revision });
  });

  test('of what has not happened yet is refused', async () => {
    const { revision } = await sold.client.organization();
    expect(await acknowledge(silent, revision + 1)).toBe('DENIED_SERVER_ROLLBACK');
    for (const odd of [0, -1]) expect(await acknowledge(silent, odd), `${odd}`).toBe('INPUT_MALFORMED');
    expect(await nodeOf('silent')).toMatchObject({ acknowledgedRevision: revision });
  });

  test('does not come from a copy that stands in an older session', async () => {
    const { licenseKey: key, license } = await sold.sell();
    const node = await activateNode(server, key, { name: 'copied' });
    const again = connectNode(server, node.key, node.activation.certificateDer);
    try {
      const session = (requestId: string, before?: ChainPosition) =>
        callUnary(
          again.openSession.bind(again),
          {
            ...{ requestId, machine: 'm', boot: 'b', bootTimeMs: 1, seenRevision: 0, isRunning: false },
            position: before ?? { sequence: 0, token: '', counter: 0 },
          },
          new Metadata(),
          { deadline: Date.now() + 60_000 },
        );
      const first = { ...(await session('r1')), counter: 0 };
      const second = { ...(await session('r2', first)), counter: 0 };
      expect(await acknowledge(node, license.revision, first)).toBe('STATE_SESSION_STALE');
      expect(await acknowledge(node, license.revision)).toBe('STATE_SESSION_STALE');
      expect(await acknowledge(node, license.revision, second)).toBe('OK');
    } finally {
      again.close();
      node.close();
    }
  });
});

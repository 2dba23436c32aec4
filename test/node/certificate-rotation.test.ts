import { X509Certificate, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { certificateRequest } from '../../shim/agent/certificate-request.ts';
import { connectKeyServer } from '../../shim/agent/key-server.ts';
import { IdentityStore } from '../../shim/agent/node-identity.ts';
import { SoftwareKey } from '../../shim/agent/software-key.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const WAIT = { timeout: 60_000, interval: 50 };

const directory = temporaryDirectory();
let server: TestKeyServer;
let sold: SoldProduct;
const nodes: AgentNode[] = [];

beforeAll(async () => {
  server = await startKeyServer({ args: ['--node-certificate-life', '6s'] });
  sold = await createSoldProduct(server);
});
afterEach(() => {
  for (const node of nodes.splice(0)) node.stop();
});
afterAll(() => server.dispose());

async function startNode(name: string = randomBytes(4).toString('hex')): Promise<AgentNode> {
  const node = await AgentNode.start({ directory: join(directory(), name), keyServer: server });
  nodes.push(node);
  return node;
}

function identityStore(node: AgentNode): IdentityStore {
  return new IdentityStore(join(node.directory, 'state', 'identity'));
}

test('a node gets its next certificate in time, and no start and no revocation falls into a gap', async () => {
  const node = await startNode();
  const { license, licenseKey } = await sold.sell({ leaseDurationMs: 60_000 });
  const { identity: first } = await node.agent.activate(licenseKey);
  const refused: unknown[] = [];
  const starts = setInterval(() => {
    node.lease(sold.image).catch((error: unknown) => refused.push(error));
  }, 20);
  await vi.waitFor(() => {
    expect(node.agent.identity!.certificateExpiresAtMs).toBeGreaterThan(first.certificateExpiresAtMs);
  }, WAIT);
  // Far beyond the end of the first certificate.
  await vi.waitFor(() => {
    expect(node.agent.identity!.certificateExpiresAtMs).toBeGreaterThan(first.certificateExpiresAtMs + 6000);
  }, WAIT);
  clearInterval(starts);
  expect(refused).toEqual([]);
  expect(await identityStore(node).load()).toEqual(node.agent.identity);
  expect(node.agent.identity).toMatchObject({ nodeId: first.nodeId, licenses: first.licenses });
  await vi.waitFor(() => expect(node.agent.watch.state.connected).toBe(true), WAIT);
  await sold.client.changeLicense(license.id, 'revoke');
  await vi.waitFor(async () => {
    await expect(node.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
  }, WAIT);
  const listed = (await sold.client.nodes()).find(({ id }) => id === first.nodeId);
  expect(listed!.certificateExpiresAtMs).toBe(node.agent.identity!.certificateExpiresAtMs);
  const events = (await auditLog(sold.client)).filter(({ action }) => action === 'node.rotate-certificate');
  expect(events[0]).toMatchObject({ actor: `node:${first.nodeId}`, outcome: 'allowed' });
});

test('the certificate stays the one before while the key server is away', async () => {
  const own = await startKeyServer({ args: ['--node-certificate-life', '4s'] });
  try {
    const product = await createSoldProduct(own);
    const node = await AgentNode.start({ directory: join(directory(), 'away'), keyServer: own });
    nodes.push(node);
    const { identity } = await node.agent.activate((await product.sell()).licenseKey);
    await own.kill();
    await vi.waitFor(() => {
      expect(node.logged.join('')).toContain('the node certificate could not be renewed');
    }, WAIT);
    expect(node.agent.identity).toEqual(identity);
    expect(await identityStore(node).load()).toEqual(identity);
    // Then it has ended, and says so rather than that the key server hangs up.
    await vi.waitFor(async () => {
      await expect(node.lease(product.image)).rejects.toMatchObject({
        code: 'DENIED_NODE_NOT_ACTIVATED',
        message: expect.stringMatching(/^the certificate of this node expired on /u) as string,
      });
    }, WAIT);
  } finally {
    await own.dispose();
  }
});

test('a node whose certificate has expired comes back as the same node, on the same seat', async () => {
  const { license, licenseKey } = await sold.sell({ maxNodes: 1 });
  const node = await startNode('expired');
  const { identity } = await node.agent.activate(licenseKey);
  node.stop();
  await new Promise((resolve) => setTimeout(resolve, identity.certificateExpiresAtMs - Date.now() + 100));
  const again = await startNode('expired');
  await expect(again.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_NOT_ACTIVATED' });
  expect((await again.agent.activate(licenseKey)).identity.nodeId).toBe(identity.nodeId);
  expect((await again.lease(sold.image)).denial).toBeUndefined();
  expect(await sold.client.license(license.id)).toMatchObject({ usedNodes: 1 });
});

test('a certificate is given for the key of the node and for no other, and to no banned node', async () => {
  const node = await startNode();
  const { identity } = await node.agent.activate((await sold.sell()).licenseKey);
  const privateKeyPem = await identityStore(node).privateKeyPem();
  const channel = connectKeyServer(server.nodeAddress, { ...identity, privateKeyPem });
  const rotate = (certificateRequestDer: Buffer) => channel.rotateCertificate({ certificateRequestDer });
  await expect(rotate((await createNodeKey()).requestDer)).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
  await expect(rotate(Buffer.from('not DER'))).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
  const own = await certificateRequest(new SoftwareKey(privateKeyPem, true), 'agent-node');
  const before = new X509Certificate(identity.certificatePem);
  const next = new X509Certificate((await rotate(own)).certificateDer);
  expect(next.subject).toBe(before.subject);
  expect(next.serialNumber).not.toBe(before.serialNumber);
  await sold.client.changeNode(identity.nodeId, 'ban');
  await expect(rotate(own)).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
  channel.close();
});

test('an open stream ends with the certificate it was opened with', async () => {
  const node = await startNode();
  const { identity } = await node.agent.activate((await sold.sell()).licenseKey);
  const privateKeyPem = await identityStore(node).privateKeyPem();
  node.stop();
  const channel = connectKeyServer(server.nodeAddress, { ...identity, privateKeyPem });
  const stream = channel.watchRevocations({ afterRevision: 0, position: undefined });
  const ended = new Promise((resolve) => stream.once('error', resolve));
  stream.resume();
  await new Promise((resolve) => setTimeout(resolve, identity.certificateExpiresAtMs - Date.now() + 100));
  // The next word on the stream finds it out: a change of the node, or a heartbeat.
  await sold.client.changeNode(identity.nodeId, 'ban');
  expect(channel.explain(await ended).code).toBe('DENIED_NODE_NOT_ACTIVATED');
  channel.close();
});

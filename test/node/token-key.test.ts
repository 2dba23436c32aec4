/** A node whose key is on a PKCS#11 token (SoftHSM), with the agent's own parts and a real key server. */
import { createRequire } from 'node:module';
import { X509Certificate, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { withSession } from '#src/keywrap/pkcs11-session.ts';
import { parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import { parseOfflineRequestFile } from '#src/licensing/offline-request.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { DAY_MS, NOWHERE, bytesOf, codeOf } from '../fakes/offline-site.ts';
import { type SoldProduct, auditLog, createSoldProduct, registerImage } from '../fakes/sold-product.ts';
import { TOKEN_PIN, createEmptyToken, softTokenSkipReason } from '../fakes/soft-token.ts';

const WAIT = { timeout: 60_000, interval: 50 };
const skipReason = softTokenSkipReason();
const CONFIGURATION = 'SOFTHSM2_CONF';

describe.skipIf(skipReason !== '')(`a node key on a token${skipReason}`, () => {
  let root: string;
  let tokens: string;
  let pinFile: string;
  let modulePath: string;
  let server: TestKeyServer;
  let sold: SoldProduct;
  const nodes: AgentNode[] = [];
  const before = process.env[CONFIGURATION];

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'latchkey-token-key-'));
    const token = await createEmptyToken(root);
    ({ modulePath } = token);
    tokens = join(root, 'tokens');
    pinFile = join(root, 'pin');
    await writeFile(pinFile, `${TOKEN_PIN}\n`, { mode: 0o600 });
    // The agent has it from its service.
    process.env[CONFIGURATION] = token.moduleEnvironment[CONFIGURATION];
    server = await startKeyServer();
    sold = await createSoldProduct(server);
  });
  afterEach(async () => {
    for (const node of nodes.splice(0)) node.stop();
    if (existsSync(`${tokens}.away`)) await bringTokenBack();
    await writeFile(pinFile, `${TOKEN_PIN}\n`);
  });
  afterAll(async () => {
    if (before === undefined) Reflect.deleteProperty(process.env, CONFIGURATION);
    else process.env[CONFIGURATION] = before;
    await server.dispose();
    await rm(root, { recursive: true, force: true });
  });

  const uriOf = (name: string) =>
    `pkcs11:token=acme;object=${name}?module-path=${modulePath}&pin-source=file:${pinFile}`;

  async function startNode(name: string, keyServer = server, keyName = name): Promise<AgentNode> {
    const settings = { node_key: uriOf(keyName) };
    const node = await AgentNode.start({ directory: join(root, name), keyServer, settings });
    nodes.push(node);
    return node;
  }

  async function startActivated(name: string = randomBytes(4).toString('hex')) {
    const node = await startNode(name);
    const { license, licenseKey } = await sold.sell();
    const { identity } = await node.agent.activate(licenseKey);
    // Until its line is up it asks the token, also when it is stopped meanwhile.
    await vi.waitFor(() => expect(node.agent.watch.state.connected).toBe(true), WAIT);
    return { node, name, license, licenseKey, nodeId: identity.nodeId };
  }

  function stop(node: AgentNode): void {
    node.stop();
    nodes.splice(nodes.indexOf(node), 1);
  }

  async function takeTokenAway(): Promise<void> {
    await rename(tokens, `${tokens}.away`);
    await mkdir(tokens);
  }

  async function bringTokenBack(): Promise<void> {
    await rm(tokens, { recursive: true });
    await rename(`${tokens}.away`, tokens);
  }

  const complaints = ({ logged }: AgentNode) => logged.filter((line) => line.includes('no line to the key'));

  test('is made on the token, activates the node and opens its image keys', async () => {
    const { node, name, nodeId } = await startActivated();
    const { imageKey } = await node.lease(sold.image);
    expect(imageKey).toEqual(Buffer.from(sold.image.imageKey));
    const listed = (await sold.client.nodes()).find(({ id }) => id === nodeId);
    // The certificate that does TLS lives for a day, whatever the server gives to keys in files.
    expect(listed!.certificateExpiresAtMs).toBe(node.agent.identity!.certificateExpiresAtMs);
    expect(listed!.certificateExpiresAtMs).toBeLessThanOrEqual(Date.now() + 86_400_000);
    const identityDirectory = join(node.directory, 'state', 'identity');
    expect(existsSync(join(identityDirectory, 'node-key.pem'))).toBe(false);
    expect(await readFile(join(identityDirectory, 'identity.json'), 'utf8')).not.toContain('PRIVATE KEY');
    expect(node.agent.nodeKeyPlace).toBe(`key ${name} on the PKCS#11 token acme`);
  });

  test('cannot be taken from the token', async () => {
    const { name } = await startActivated();
    const library = createRequire(import.meta.url)('graphene-pk11') as typeof import('graphene-pk11');
    const location = { uri: parsePkcs11Uri(uriOf(name)), modulePath, moduleEnvironment: {}, pin: TOKEN_PIN };
    withSession(library, location, (session) => {
      const key = session.find({ class: library.ObjectClass.PRIVATE_KEY, label: name }).items(0);
      expect(key.getAttribute({ extractable: null, sensitive: null })).toEqual({
        ...{ extractable: false, sensitive: true },
      });
      expect(() => key.getAttribute({ value: null })).toThrow(/CKR_ATTRIBUTE_SENSITIVE/);
    });
  });

  test('is the same node after a restart, on another TLS key', async () => {
    const { node, name, nodeId } = await startActivated();
    const key = new X509Certificate(node.agent.identity!.certificatePem).publicKey;
    stop(node);
    const again = await startNode(name);
    expect(again.agent.identity).toMatchObject({ nodeId });
    expect((await again.lease(sold.image)).denial).toBeUndefined();
    expect(new X509Certificate(again.agent.identity!.certificatePem).publicKey.equals(key)).toBe(true);
    const events = (await auditLog(sold.client)).filter(({ actor }) => actor === `node:${nodeId}`);
    expect(events.filter(({ action }) => action === 'node.authenticate')).toHaveLength(2);
    // The chain of sessions goes on: nothing looks like a copy.
    expect((await sold.client.nodes()).find(({ id }) => id === nodeId)).toMatchObject({ state: 'ACTIVE' });
  });

  test('is proven once for an activation, also when the look for a certificate that is due falls into it', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      const node = await startNode(randomBytes(4).toString('hex'));
      const activating = node.agent.activate((await sold.sell()).licenseKey);
      while (node.agent.identity === undefined) await new Promise((resolve) => setImmediate(resolve));
      vi.advanceTimersByTime(1000);
      const { nodeId } = (await activating).identity;
      // Comes after what has waited for the activation.
      await node.agent.offline.requestOffline([]);
      const events = (await auditLog(sold.client)).filter(({ actor }) => actor === `node:${nodeId}`);
      expect(events.filter(({ action }) => action === 'node.authenticate')).toHaveLength(1);
    } finally {
      vi.useRealTimers();
    }
  });

  test('that is away stops new starts with one line, and no held lease', async () => {
    const { node } = await startActivated();
    const held = await node.lease(sold.image);
    const another = await registerImage(sold.client, sold.productCode);
    await takeTokenAway();
    await expect(node.lease(another)).rejects.toMatchObject({
      code: 'DENIED_LEASE_EXPIRED',
      message: 'no lease (there is no token "acme")',
    });
    expect(await node.lease(sold.image)).toBe(held);
    expect(node.agent.leases.isGood(held)).toBe(true);
    await bringTokenBack();
    expect((await node.lease(another)).denial).toBeUndefined();
  });

  test('that is away at start leaves the agent running, and it comes back with the token', async () => {
    const { node, name, nodeId } = await startActivated();
    stop(node);
    await takeTokenAway();
    const again = await startNode(name);
    await expect(again.lease(sold.image)).rejects.toMatchObject({
      code: 'DENIED_LEASE_EXPIRED',
      message: 'no lease (there is no token "acme")',
    });
    // Time for another try, of which nothing is said.
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    expect(complaints(again)).toHaveLength(1);
    await bringTokenBack();
    await vi.waitFor(async () => {
      expect((await again.lease(sold.image)).denial).toBeUndefined();
    }, WAIT);
    expect(again.agent.identity).toMatchObject({ nodeId });
  });

  test('is asked for with a wrong PIN once, until the PIN is another one', async () => {
    const { node, name } = await startActivated();
    stop(node);
    await writeFile(pinFile, '9999\n');
    const again = await startNode(name);
    await expect(again.lease(sold.image)).rejects.toMatchObject({
      message: 'no lease (the token does not accept the PIN (CKR_PIN_INCORRECT))',
    });
    const login = spyOnLogins();
    try {
      await new Promise((resolve) => setTimeout(resolve, 10_000));
      expect(login).not.toHaveBeenCalled();
      expect(complaints(again)).toHaveLength(1);
      await writeFile(pinFile, `${TOKEN_PIN}\n`);
      await vi.waitFor(async () => {
        expect((await again.lease(sold.image)).denial).toBeUndefined();
      }, WAIT);
      expect(login).toHaveBeenCalled();
    } finally {
      login.mockRestore();
    }
  });

  test('that is another one than the node was activated with is told from it', async () => {
    const { node, name } = await startActivated();
    stop(node);
    const other = await startNode(name, server, 'never-made');
    await expect(other.lease(sold.image)).rejects.toMatchObject({
      message: expect.stringContaining('there is no key never-made on the PKCS#11 token acme') as string,
    });
    stop(other);
    const second = await startActivated();
    stop(second.node);
    const foreign = await startNode(name, server, second.name);
    await expect(foreign.lease(sold.image)).rejects.toMatchObject({
      message: expect.stringContaining('this node was activated with another key') as string,
    });
  });

  test('makes an offline bundle of use on the machine with the token alone', async () => {
    const away = { ...server, nodeAddress: NOWHERE, enrollAddress: NOWHERE };
    const name = randomBytes(4).toString('hex');
    const node = await startNode(name, away);
    const { license } = await sold.sell();
    const asked = Buffer.from(JSON.stringify(await node.agent.offline.requestOffline([])));
    const { requests } = parseOfflineRequestFile(asked, 'request');
    const { file } = await sold.client.checkOut(license.id, { requests, lifeMs: DAY_MS });
    await node.agent.offline.importOffline(bytesOf(file));
    expect((await node.lease(sold.image)).imageKey).toEqual(Buffer.from(sold.image.imageKey));
    stop(node);

    // Everything that is on the disk, without the token.
    await takeTokenAway();
    const without = await startNode(name, away);
    await expect(without.lease(sold.image)).rejects.toMatchObject({
      message: expect.stringContaining('there is no token "acme"') as string,
    });
    await bringTokenBack();
    await vi.waitFor(async () => {
      expect(await without.lease(sold.image)).toHaveProperty('carried');
    }, WAIT);
    stop(without);

    const other = await startNode(`${name}-other`, away);
    expect(await codeOf(other.agent.offline.importOffline(bytesOf(file)))).toBe('DENIED_LEASE_INVALID');
  });

  test('of a node that was banned while its agent was away gets no certificate', async () => {
    const { node, name, nodeId } = await startActivated();
    stop(node);
    await sold.client.changeNode(nodeId, 'ban');
    const again = await startNode(name);
    await expect(again.lease(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
    await sold.client.changeNode(nodeId, 'unban');
    await vi.waitFor(async () => {
      expect((await again.lease(sold.image)).denial).toBeUndefined();
    }, WAIT);
  });

  test('gets the next TLS certificate in time, and after one has ended', async () => {
    const own = await startKeyServer({ args: ['--node-certificate-life', '6s'] });
    try {
      const product = await createSoldProduct(own);
      const name = randomBytes(4).toString('hex');
      const node = await startNode(name, own);
      await node.agent.activate((await product.sell({ leaseDurationMs: 60_000 })).licenseKey);
      const first = node.agent.identity!.certificateExpiresAtMs;
      await vi.waitFor(() => {
        expect(node.agent.identity!.certificateExpiresAtMs).toBeGreaterThan(first + 6000);
      }, WAIT);
      const held = await node.lease(product.image);
      // A token that is away for longer than a certificate lives.
      await takeTokenAway();
      const last = node.agent.identity!.certificateExpiresAtMs;
      await new Promise((resolve) => setTimeout(resolve, last - Date.now() + 500));
      expect(node.agent.leases.isGood(held)).toBe(true);
      await expect(
        node.agent.leases.require({ ...product.image, imageDigest: sold.image.imageDigest }, undefined),
      ).rejects.toMatchObject({ code: 'DENIED_LEASE_EXPIRED' });
      await bringTokenBack();
      await vi.waitFor(() => {
        expect(node.agent.identity!.certificateExpiresAtMs).toBeGreaterThan(last);
        expect(node.agent.watch.state.connected).toBe(true);
      }, WAIT);
    } finally {
      await own.dispose();
    }
  });
});

function spyOnLogins() {
  const { Session } = createRequire(import.meta.url)('graphene-pk11') as typeof import('graphene-pk11');
  return vi.spyOn(Session.prototype, 'login');
}

import { randomBytes } from 'node:crypto';
import { type ConnectionOptions, connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LICENSE_KEY_BYTES, formatLicenseKey } from '#src/licensing/license-key.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode, connectNode, createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

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

async function activate(
  ...args: Parameters<typeof activateNode> extends [unknown, ...infer Rest] ? Rest : never
) {
  const node = await activateNode(server, ...args);
  nodes.push(node);
  return node;
}

describe('activation', () => {
  it('makes a machine a node, whatever the key was typed like', async () => {
    const { license, licenseKey } = await sold.sell();
    expect(license).toMatchObject({ state: 'PENDING', usedNodes: 0 });
    const node = await activate(licenseKey.toLowerCase().replaceAll('-', ' '), { name: 'web-1' });
    expect(node.activation).toMatchObject({
      licenseId: license.id,
      productCode: sold.productCode,
      contact: 'help@acme.example',
    });
    expect(await sold.client.license(license.id)).toMatchObject({ state: 'ACTIVE', usedNodes: 1 });
    const listed = (await sold.client.nodes()).find(({ id }) => id === node.activation.nodeId);
    expect(listed).toMatchObject({ name: 'web-1', state: 'ACTIVE', licenseIds: [license.id] });
  });

  it('refuses a used-up key, but takes no second seat for the same node', async () => {
    const { license, licenseKey } = await sold.sell({ maxNodes: 1 });
    const key = await createNodeKey();
    const first = await activate(licenseKey, { key });
    const again = await activate(licenseKey, { key });
    expect(again.activation.nodeId).toBe(first.activation.nodeId);
    await expect(activate(licenseKey)).rejects.toMatchObject({
      code: 'DENIED_NODE_LIMIT',
      licenseId: license.id,
      contact: 'help@acme.example',
    });
    expect((await sold.client.license(license.id)).usedNodes).toBe(1);
  });

  it('gives the seat of a banned node to another, and then has none for its return', async () => {
    const { licenseKey } = await sold.sell({ maxNodes: 1 });
    const key = await createNodeKey();
    const { activation } = await activate(licenseKey, { key });
    await sold.client.changeNode(activation.nodeId, 'ban');
    await expect(activate(licenseKey, { key })).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
    await activate(licenseKey);
    await expect(sold.client.changeNode(activation.nodeId, 'unban')).rejects.toMatchObject({
      code: 'STATE_PRECONDITION',
    });
  });

  it('is what uses a license, not its reinstatement after a suspension', async () => {
    const { license, licenseKey } = await sold.sell();
    // The second suspension changes nothing, nor what the license was before.
    for (const action of ['suspend', 'suspend'] as const) await sold.client.changeLicense(license.id, action);
    expect((await sold.client.changeLicense(license.id, 'reinstate')).state).toBe('PENDING');
    (await activateNode(server, licenseKey)).close();
    await sold.client.changeLicense(license.id, 'suspend');
    expect((await sold.client.changeLicense(license.id, 'reinstate')).state).toBe('ACTIVE');
  });

  it('lets one node hold licenses of several products', async () => {
    const other = await createSoldProduct(server);
    const key = await createNodeKey();
    const first = await activate((await sold.sell()).licenseKey, { key });
    const second = await activate((await other.sell()).licenseKey, { key });
    expect(second.activation.nodeId).toBe(first.activation.nodeId);
    expect((await first.acquire(other.image)).lease).not.toBe('');
    expect((await second.acquire(sold.image)).lease).not.toBe('');
  });

  it('refuses a malformed key and an unknown one', async () => {
    await expect(activate('LK-NOT-A-KEY')).rejects.toMatchObject({ code: 'INPUT_LICENSE_KEY_MALFORMED' });
    const unknown = formatLicenseKey(randomBytes(LICENSE_KEY_BYTES));
    await expect(activate(unknown)).rejects.toMatchObject({ code: 'DENIED_LICENSE_NOT_FOUND' });
  });

  it.each(['suspend', 'revoke'] as const)('refuses the key of a license after %s', async (verb) => {
    const { license, licenseKey } = await sold.sell();
    await sold.client.changeLicense(license.id, verb);
    await expect(activate(licenseKey)).rejects.toMatchObject({ licenseId: license.id });
  });

  it('refuses a clock that is far off, and takes no seat', async () => {
    const { license, licenseKey } = await sold.sell();
    await expect(activate(licenseKey, { nodeTimeMs: Date.now() - 3_600_000 })).rejects.toMatchObject({
      code: 'DENIED_CLOCK_SKEW',
    });
    expect((await sold.client.license(license.id)).usedNodes).toBe(0);
  });

  it('refuses a certificate request that its sender cannot have signed', async () => {
    const { licenseKey } = await sold.sell();
    const key = await createNodeKey();
    const forged = Buffer.from(key.requestDer);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    await expect(activate(licenseKey, { key: { ...key, requestDer: forged } })).rejects.toMatchObject({
      code: 'INPUT_MALFORMED',
    });
    const nonsense = { ...key, requestDer: Buffer.from('not DER') };
    await expect(activate(licenseKey, { key: nonsense })).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
  });

  it('lets exactly as many nodes in as there are seats when many come at once', async () => {
    const { license, licenseKey } = await sold.sell({ maxNodes: 3 });
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => activate(licenseKey)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect((await sold.client.license(license.id)).usedNodes).toBe(3);
  });

  it('is in the audit log, allowed and denied, without any license key', async () => {
    const { license, licenseKey } = await sold.sell({ maxNodes: 1 });
    await activate(licenseKey);
    await activate(licenseKey).catch(() => undefined);
    const log = await auditLog(sold.client);
    const events = log.filter((event) => event.action === 'node.activate' && event.target === license.id);
    expect(events.map(({ outcome, code }) => [outcome, code])).toEqual([
      ['allowed', null],
      ['denied', 'DENIED_NODE_LIMIT'],
    ]);
    expect(JSON.stringify(log)).not.toContain(licenseKey);
    expect(server.log()).not.toContain(licenseKey);
  });
});

describe('node certificates', () => {
  it('of another organization open nothing', async () => {
    const foreign = await startKeyServer();
    try {
      const other = await createSoldProduct(foreign);
      const node = await activateNode(foreign, (await other.sell()).licenseKey);
      nodes.push(node);
      const client = connectNode(server, node.key, node.activation.certificateDer);
      await expect(
        new Promise((resolve, reject) => {
          client.renewLeases(
            { leaseIds: [], nodeTimeMs: Date.now(), position: undefined, acceptsLeaseList: true },
            (error, answer) => {
              if (error === null) resolve(answer);
              else reject(error);
            },
          );
        }),
      ).rejects.toMatchObject({ details: expect.stringMatching(/connection|alert|unknown/iu) as string });
      client.close();
    } finally {
      await foreign.dispose();
    }
  });
});

describe('the listeners for nodes', () => {
  /** Resolves when the handshake is through and the server has not refused it in its next word. */
  function handshake(address: string, options: ConnectionOptions): Promise<string | null> {
    const [host, port] = address.split(':') as [string, string];
    return new Promise((resolve, reject) => {
      const socket = connect({
        host,
        port: Number(port),
        ca: server.authorityPem,
        ALPNProtocols: ['h2'],
        ...options,
      });
      socket.once('error', reject);
      // In TLS 1.3 a client learns only from the first data whether its certificate was accepted.
      socket.once('data', () => {
        resolve(socket.getProtocol());
        socket.destroy();
      });
    });
  }

  it('speak TLS 1.3 and nothing older', async () => {
    for (const address of [server.enrollAddress, server.nodeAddress]) {
      await expect(handshake(address, { maxVersion: 'TLSv1.2' })).rejects.toThrow(/protocol version/u);
    }
    expect(await handshake(server.enrollAddress, {})).toBe('TLSv1.3');
  });

  it('let only holders of a certificate near leases', async () => {
    await expect(handshake(server.nodeAddress, {})).rejects.toThrow(/certificate required/u);
  });
});

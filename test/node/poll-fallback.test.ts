import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import type { LicenseChange } from '#src/wire/generated/latchkey/node.ts';
import { TcpProxy } from '../../lab/tcp-proxy.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { connectKeyServer } from '../../shim/agent/key-server.ts';
import { KeyServerLine } from '../../shim/agent/key-server-line.ts';
import { readMachine } from '../../shim/agent/machine.ts';
import { IdentityStore } from '../../shim/agent/node-identity.ts';
import { NodeMemory } from '../../shim/agent/node-memory.ts';
import { SoftwareKey } from '../../shim/agent/software-key.ts';
import { RevocationWatch } from '../../shim/agent/revocation-watch.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';
import { startStreamCuttingProxy } from '../fakes/stream-cutting-proxy.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const WAIT = { timeout: 60_000, interval: 50 };

const directory = temporaryDirectory();
let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});
afterAll(() => server.dispose());

/** An activated node that is stopped: its identity, to go on with behind a proxy. */
async function activatedNode() {
  const node = await AgentNode.start({ directory: directory(), keyServer: server });
  const { license, licenseKey } = await sold.sell();
  const { identity } = await node.agent.activate(licenseKey);
  await node.lease(sold.image);
  node.stop();
  const identityDirectory = join(directory(), 'state', 'identity');
  const privateKeyPem = await new IdentityStore(identityDirectory).privateKeyPem();
  return { credentials: { ...identity, privateKeyPem, isReplaceable: false }, identityDirectory, license };
}

test('a revocation arrives through a proxy that cuts streams, and by a stream once it does not', async () => {
  const { credentials, identityDirectory, license } = await activatedNode();
  const proxy = await startStreamCuttingProxy(server.nodeAddress, credentials);
  const machine = readMachine();
  const memory = await NodeMemory.open({
    directory: identityDirectory,
    key: new SoftwareKey(credentials.privateKeyPem, true),
    clock: systemClock,
    boot: machine.boot,
    onWriteFailed: () => undefined,
  });
  const { authorityPem } = proxy;
  const parts = { clock: systemClock, machine, memory };
  const line = new KeyServerLine(proxy.address, { ...credentials, authorityPem }, parts);
  const changes: LicenseChange[] = [];
  const watch = new RevocationWatch(systemClock, {
    onChange: (change) => changes.push(change),
    onRefused: () => undefined,
  });
  try {
    watch.start(line);
    await vi.waitFor(() => expect(watch.state).toMatchObject({ connected: true, by: 'poll' }), WAIT);
    await sold.client.changeLicense(license.id, 'suspend');
    await vi.waitFor(() => expect(changes.at(-1)?.denial?.code).toBe('DENIED_LICENSE_SUSPENDED'), WAIT);
    expect(watch.state.by).toBe('poll');
    proxy.cutsStreams = false;
    await vi.waitFor(() => expect(watch.state.by).toBe('stream'), WAIT);
    await sold.client.changeLicense(license.id, 'revoke');
    await vi.waitFor(() => expect(changes.at(-1)?.denial?.code).toBe('DENIED_LICENSE_REVOKED'), WAIT);
  } finally {
    watch.stop();
    line.close();
    await proxy.close();
  }
});

test('a stream that is asked for while there is no line comes with the next connection', async () => {
  const { credentials } = await activatedNode();
  const line = await TcpProxy.start(server.nodeAddress);
  line.change('closing');
  const channel = connectKeyServer(line.address, credentials);
  try {
    const stream = channel.watchRevocations({ afterRevision: 0, position: undefined });
    const answered = new Promise<unknown>((resolve) => stream.once('error', resolve));
    await vi.waitFor(() => {
      expect(line.connections).toBeGreaterThan(1);
    }, WAIT);
    line.change('passing');
    // What the key server says to a node that does not tell where it is.
    expect(channel.explain(await answered)).toMatchObject({ code: 'STATE_SESSION_STALE' });
  } finally {
    channel.close();
    line.close();
  }
});

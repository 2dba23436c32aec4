/** How long connections to the listeners for nodes last, on real sockets, with limits that a test can wait for. */
import { once } from 'node:events';
import { X509Certificate } from 'node:crypto';
import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MINUTE_MS } from '#src/base/units.ts';
import { CONNECTION_LIMITS } from '../../keyserver/connection-limits.ts';
import { MAX_CONNECTIONS_PER_NODE } from '../../keyserver/limits.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';
import { TcpProxy } from '../../lab/tcp-proxy.ts';
import { startInProcess } from '../fakes/key-server-in-process.ts';
import { LicensedNode, activateNode, connectNode, createNodeKey } from '../fakes/licensed-node.ts';
import { metricValue } from '../fakes/prometheus-text.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

const PATIENTLY = { timeout: 60_000 };
/** Far beyond the test: of the two limits under test, only one can be what closed a connection. */
const NEVER_MS = 60 * MINUTE_MS;
const SOON_MS = 300;
const CALM = {
  ...{ enrollmentIdleMs: NEVER_MS, enrollmentAgeMs: NEVER_MS, ageGraceMs: SOON_MS },
  ...{ nodeIdleMs: NEVER_MS, keepaliveMs: NEVER_MS, keepaliveTimeoutMs: NEVER_MS },
};

/** Closes who is idle and who is silent. */
let strict: TestKeyServer;
/** Closes who is there for long. */
let ageing: TestKeyServer;
let node: LicensedNode;

const connected = async (address: string, certified?: LicensedNode): Promise<ClientHttp2Session> => {
  const session = connect(`https://${address}`, {
    rejectUnauthorized: false,
    ...(certified === undefined
      ? {}
      : {
          cert: new X509Certificate(certified.activation.certificateDer).toString(),
          key: certified.key.privateKey.export({ type: 'pkcs8', format: 'pem' }),
        }),
  });
  session.on('error', () => undefined);
  await once(session, 'remoteSettings');
  return session;
};
const closed = async (session: ClientHttp2Session) => {
  if (!session.destroyed) await once(session, 'close');
};
/** A call whose request never ends. */
const callForEver = (session: ClientHttp2Session, path: string) => {
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
  const call = session.request(headers, { endStream: false });
  call.on('error', () => undefined);
  return call;
};
/** On a busy machine an activation can take longer than its connection may last; then it is tried again. */
const activateAgeing = async (licenseKey: string): Promise<LicensedNode> => {
  const key = await createNodeKey();
  for (;;) {
    const outcome = await activateNode(ageing, licenseKey, { key }).catch((error: unknown) => error);
    if (outcome instanceof LicensedNode) return outcome;
    expect(outcome).toMatchObject({ code: 'NET_UNREACHABLE' });
  }
};
const watchers = async () =>
  metricValue(
    await (await fetch(`http://${strict.metricsAddress ?? ''}/metrics`)).text(),
    'latchkey_server_watchers',
  );

beforeAll(async () => {
  [strict, ageing] = await Promise.all([
    startInProcess(['--metrics-listen=127.0.0.1:0'], {
      connections: {
        ...CALM,
        ...{ enrollmentIdleMs: SOON_MS, nodeIdleMs: SOON_MS, keepaliveMs: SOON_MS, keepaliveTimeoutMs: 3000 },
      },
    }),
    startInProcess([], { connections: { ...CALM, enrollmentAgeMs: SOON_MS } }),
  ]);
  node = await activateNode(strict, (await (await createSoldProduct(strict)).sell()).licenseKey);
});

afterAll(async () => {
  node.close();
  await Promise.all([strict.dispose(), ageing.dispose()]);
});

describe('a connection', () => {
  it('to enrol, or of a node, is closed when it has no call', async () => {
    for (const session of [
      await connected(strict.enrollAddress),
      await connected(strict.nodeAddress, node),
    ]) {
      await closed(session);
      expect(session.destroyed).toBe(true);
    }
  });

  it('stays open for the call that it has, and a node comes back for its next one', async () => {
    const watch = node.client.watchRevocations({ afterRevision: 0, position: undefined });
    watch.on('error', () => undefined);
    let told = 0;
    watch.on('data', () => (told += 1));
    await expect.poll(() => told, PATIENTLY).toBeGreaterThan(0);
    const idle = await connected(strict.nodeAddress, node);
    await closed(idle);
    expect(await watchers()).toBe(1);
    watch.cancel();
    await expect.poll(watchers, PATIENTLY).toBe(0);
    const again = await connected(strict.nodeAddress, node);
    await closed(again);
    await expect(node.preflight(`sha256:${'0'.repeat(64)}`)).rejects.toMatchObject({
      code: 'DENIED_IMAGE_UNKNOWN',
    });
  });

  it('to enrol is closed at its age, whatever it is in the middle of', async () => {
    const session = await connected(ageing.enrollAddress);
    const call = callForEver(session, '/latchkey.node.v1.Enrollment/Activate');
    const ended = once(call, 'close');
    await closed(session);
    await ended;
  });

  it('of a node has no age, for its stream is for life', async () => {
    const sold = await createSoldProduct(ageing);
    const kept = await activateAgeing((await sold.sell()).licenseKey);
    const session = await connected(ageing.nodeAddress, kept);
    const call = callForEver(session, '/latchkey.node.v1.Nodes/WatchRevocations');
    // Two on the other port, the second of which came later, are closed one after the other.
    for (let count = 0; count < 2; count += 1) {
      const stranger = await connected(ageing.enrollAddress);
      callForEver(stranger, '/latchkey.node.v1.Enrollment/Activate');
      await closed(stranger);
    }
    expect([session.closed, call.closed]).toEqual([false, false]);
    session.destroy();
    kept.close();
  });

  it('of a node that has too many takes the place of its oldest, and of no other node', async () => {
    const sold = await createSoldProduct(ageing);
    const { licenseKey } = await sold.sell();
    const [one, other] = [await activateAgeing(licenseKey), await activateAgeing(licenseKey)];
    const others = await connected(ageing.nodeAddress, other);
    const own: ClientHttp2Session[] = [];
    for (let count = 0; count < MAX_CONNECTIONS_PER_NODE; count += 1) {
      own.push(await connected(ageing.nodeAddress, one));
      callForEver(own.at(-1)!, '/latchkey.node.v1.Nodes/WatchRevocations');
    }
    expect(own.map(({ destroyed }) => destroyed)).not.toContain(true);
    own.push(await connected(ageing.nodeAddress, one));
    await closed(own[0]!);
    await expect(one.preflight(`sha256:${'0'.repeat(64)}`)).rejects.toMatchObject({
      code: 'DENIED_IMAGE_UNKNOWN',
    });
    await closed(own[1]!);
    expect([others, ...own.slice(2)].map(({ destroyed }) => destroyed)).not.toContain(true);
    for (const session of [others, ...own]) session.destroy();
    for (const client of [one, other]) client.close();
  });

  it('whose other end has gone without a word is closed, and its stream with it', async () => {
    const line = await TcpProxy.start(strict.nodeAddress);
    const client = connectNode(
      { ...strict, nodeAddress: line.address },
      node.key,
      node.activation.certificateDer,
    );
    const watch = client.watchRevocations({ afterRevision: 0, position: undefined });
    watch.on('error', () => undefined);
    watch.on('data', () => undefined);
    await expect.poll(watchers, PATIENTLY).toBe(1);
    line.change('silent');
    await expect.poll(watchers, PATIENTLY).toBe(0);
    client.close();
    line.close();
  });

  it('that is reset once its handshake is over is closed, also in the middle of a write', async () => {
    const sockets = () => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
    const before = sockets();
    const [host, port] = strict.enrollAddress.split(':');
    for (let count = 0; count < 20; count += 1) {
      const socket = connectTcp(Number(port), host);
      const secure = connectTls({ socket, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
      secure.on('error', () => undefined);
      await once(secure, 'secureConnect');
      // Its last message is on the way, and not yet answered.
      await setImmediate();
      socket.resetAndDestroy();
    }
    await expect.poll(sockets, PATIENTLY).toBeLessThanOrEqual(before);
  });

  it('has the limits that the operations guide names', () => {
    expect(CONNECTION_LIMITS).toMatchObject({
      ...{ enrollmentIdleMs: 30_000, enrollmentAgeMs: 300_000, nodeIdleMs: 600_000 },
    });
    expect(MAX_CONNECTIONS_PER_NODE).toBe(8);
  });
});

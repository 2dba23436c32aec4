/** Who gets through to the listeners, and what those for nodes take from whoever can reach them, on real sockets. */
import { execFileSync } from 'node:child_process';
import { X509Certificate, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls, { type ConnectionOptions } from 'node:tls';
import { connect as connectHttp2 } from 'node:http2';
import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import { createAuthority, issueServerCertificate } from '../../keyserver/custody/certificate-authority.ts';
import { listenTls } from '../../keyserver/grpc/tls-listener.ts';
import { MAX_CALLS_PER_CONNECTION, MAX_NODE_MESSAGE_BYTES } from '../../keyserver/limits.ts';
import { freePort } from '../../lab/free-port.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type RawConnection, connectRaw } from '../fakes/raw-connection.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

let directory: string;
/** With its admin API over TLS. */
let secure: TestKeyServer;
/** With a plain one, for what is above TLS. */
let server: TestKeyServer;
let node: LicensedNode;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-listener-limits-'));
  const [certFile, keyFile] = [join(directory, 'admin.pem'), join(directory, 'admin.key')];
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-subj', '/CN=localhost', '-keyout', keyFile, '-out', certFile],
    ],
    { stdio: 'ignore' },
  );
  secure = await startKeyServer({ args: ['--admin-tls-cert', certFile, '--admin-tls-key', keyFile] });
  server = await startKeyServer();
  node = await activateNode(server, (await (await createSoldProduct(server)).sell()).licenseKey);
});

afterAll(async () => {
  node.close();
  await Promise.all([secure.dispose(), server.dispose()]);
  await rm(directory, { recursive: true, force: true });
});

function addressOf(name: 'admin' | 'node' | 'enroll'): { host: string; port: number } {
  const address = {
    admin: new URL(secure.adminUrl).host,
    node: secure.nodeAddress,
    enroll: secure.enrollAddress,
  }[name];
  return { host: '127.0.0.1', port: Number(address.slice(address.lastIndexOf(':') + 1)) };
}

/**
 * Connects and waits for a word of the server; gives the protocol version, or the code of what ended it. In TLS 1.3 the
 * refusal of a certificate comes after the client believes that it is in.
 */
function handshake(name: 'admin' | 'node' | 'enroll', options: ConnectionOptions): Promise<string> {
  return new Promise((resolve) => {
    const socket = tls.connect({ ...addressOf(name), rejectUnauthorized: false, ...options });
    socket.once('secureConnect', () => {
      // HTTP/2 begins with the server's settings, HTTP/1.1 with a request.
      if (name === 'admin') socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
      const { alpnProtocol } = socket;
      const version = `${socket.getProtocol() ?? ''} ${alpnProtocol === false ? 'no protocol' : (alpnProtocol ?? '')}`;
      socket.once('data', () => {
        resolve(version);
        socket.destroy();
      });
    });
    socket.once('close', () => {
      resolve('closed');
    });
    socket.once('error', (error) => {
      resolve((error as { code?: string }).code ?? 'error');
    });
  });
}

const NODE_PROTOCOL = { ALPNProtocols: ['h2'] };

describe('TLS', () => {
  it.each(['admin', 'node', 'enroll'] as const)('is 1.3 or nothing: %s', async (name) => {
    const old = await handshake(name, { ...NODE_PROTOCOL, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' });
    expect(old).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  });

  it('lets strangers enrol and administrators in, and no node without a certificate', async () => {
    expect(await handshake('admin', {})).toMatch(/^TLSv1\.3/);
    expect(await handshake('enroll', NODE_PROTOCOL)).toBe('TLSv1.3 h2');
    expect(await handshake('node', NODE_PROTOCOL)).not.toContain('TLSv1.3');
    const certificate = new X509Certificate(node.activation.certificateDer).toString();
    const ofAnother = { ...NODE_PROTOCOL, cert: certificate, key: pemOf(node) };
    expect(await handshake('node', ofAnother)).not.toContain('TLSv1.3');
  });

  it('speaks HTTP/2 to nodes and nothing else', async () => {
    expect(await handshake('enroll', { ALPNProtocols: ['http/1.1'] })).toBe(
      'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
    );
    expect(await handshake('enroll', {})).toBe('closed');
  });
});

function pemOf({ key }: LicensedNode): string {
  return key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
}

describe('a listener for nodes', () => {
  async function listen(limits: {
    maxConnections: number;
    maxPendingHandshakes: number;
    handshakeTimeoutMs: number;
  }) {
    const [authority, own] = [newKeyPair(), newKeyPair()];
    const authorityCertificate = await createAuthority('Acme', authority, Date.now());
    const issuer = { authorityCertificate, authorityKey: authority.privateKey };
    const der = await issueServerCertificate(issuer, own.publicKey, ['localhost'], Date.now());
    const established: Socket[] = [];
    const listener = await listenTls(
      {
        ...{ host: '127.0.0.1', port: 0, requiresCertificate: false },
        authorityPem: new X509Certificate(authorityCertificate).toString(),
        certificatePem: new X509Certificate(der).toString(),
        privateKeyPem: own.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      },
      (socket) => established.push(socket),
      limits,
    );
    const shakeHands = () =>
      new Promise<Socket>((resolve, reject) => {
        const { port } = listener;
        const socket = tls.connect(
          { host: '127.0.0.1', port, ...NODE_PROTOCOL, rejectUnauthorized: false },
          () => {
            resolve(socket);
          },
        );
        socket.once('error', reject);
      });
    const end = () => {
      listener.close();
      for (const socket of established) socket.destroy();
    };
    return { ...listener, established, shakeHands, end };
  }

  it('closes a connection that says nothing', async () => {
    const listener = await listen({ maxConnections: 10, maxPendingHandshakes: 10, handshakeTimeoutMs: 200 });
    await (
      await connectRaw(listener.port)
    ).closed;
    listener.end();
  });

  it('drops the oldest of many half-open ones, so that there is room for who means it', async () => {
    const listener = await listen({
      maxConnections: 100,
      maxPendingHandshakes: 3,
      handshakeTimeoutMs: 60_000,
    });
    const silent: RawConnection[] = [];
    for (let count = 0; count < 3; count += 1) silent.push(await connectRaw(listener.port));
    const established = await listener.shakeHands();
    await silent[0]!.closed;
    // An established one takes no place: two silent ones are left, and one more comes in.
    silent.push(await connectRaw(listener.port));
    (await listener.shakeHands()).destroy();
    await silent[1]!.closed;
    expect([established, silent[2]!.socket, silent[3]!.socket].some(({ destroyed }) => destroyed)).toBe(
      false,
    );
    // The others go with the listener.
    listener.end();
    await Promise.all(silent.map(({ closed }) => closed));
  });

  it('counts half-open ones right when the next comes from the port of one that was just reset', async () => {
    const listener = await listen({
      maxConnections: 100,
      maxPendingHandshakes: 3,
      handshakeTimeoutMs: 60_000,
    });
    for (let count = 0; count < 5; count += 1) {
      // One that no other connection is given, to wherever.
      const localPort = await freePort();
      const first = await connectRaw(listener.port, localPort);
      // Until it is accepted.
      await new Promise((resolve) => setTimeout(resolve, 20));
      first.socket.resetAndDestroy();
      const second = await connectRaw(listener.port, localPort);
      second.socket.resetAndDestroy();
      await Promise.all([first.closed, second.closed]);
    }
    (await listener.shakeHands()).destroy();
    listener.end();
  });

  it('takes so many connections and no more', async () => {
    const listener = await listen({
      maxConnections: 2,
      maxPendingHandshakes: 10,
      handshakeTimeoutMs: 60_000,
    });
    const held = [await listener.shakeHands(), await listener.shakeHands()];
    await expect(listener.shakeHands()).rejects.toThrow();
    held[0]!.destroy();
    await expect
      .poll(() =>
        listener.shakeHands().then(
          () => 'in',
          () => 'refused',
        ),
      )
      .toBe('in');
    listener.end();
  });

  it('bounds the calls of a connection and the size of a message', async () => {
    const session = connectHttp2(`https://${server.enrollAddress}`, { rejectUnauthorized: false });
    const settings = await new Promise<{ maxConcurrentStreams?: number }>((resolve) =>
      session.once('remoteSettings', resolve),
    );
    session.destroy();
    expect(settings.maxConcurrentStreams).toBe(MAX_CALLS_PER_CONNECTION);
    const request = {
      licenseId: 'x'.repeat(MAX_NODE_MESSAGE_BYTES),
      epoch: 0,
      denialCode: '',
      startsRefusedAtMs: 0,
    };
    const numbers = { runningContainers: 0, plaintextLayers: 0, plaintextGoneAtMs: 0, nodeTimeMs: 0 };
    const report = node.client.reportPlaintext.bind(node.client);
    const call = callUnary(report, { ...request, ...numbers }, new Metadata(), {});
    await expect(call).rejects.toMatchObject({
      code: 8,
      details: expect.stringContaining('larger than max') as string,
    });
    await expect(call).rejects.toSatisfy(
      (error) => fromGrpcError(error, 'key server').code !== 'INPUT_MALFORMED',
    );
  });
});

function newKeyPair() {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

/** A gRPC server over mutual TLS that answers at once: what the protocol alone costs. Runs as its own process. */
import { type ChildProcess, fork } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import {
  type AcquireLeaseRequest,
  AcquireLeaseResponse,
  NodesService,
  OpenSessionResponse,
  type WatchRevocationsRequest,
  WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import { createAuthority, issueServerCertificate } from '../keyserver/custody/certificate-authority.ts';
import { authorityPem } from '../keyserver/domain/organization.ts';
import { UnaryConnection } from './unary-connection.ts';

export interface IdleServer {
  readonly pid: number;
  /** As clients of its streams need it. */
  readonly nodeAddress: string;
  readonly authorityPem: string;
  call: () => Promise<unknown>;
  /** Has it send a license change to every open stream. */
  changeAll: () => void;
  stop: () => void;
}

interface Ready {
  readonly address: string;
  readonly authority: string;
  readonly certificate: string;
  readonly privateKey: string;
}

/** Starts the server process and connects to it. */
export async function startIdleServer(): Promise<IdleServer> {
  const child: ChildProcess = fork(import.meta.filename, ['serve']);
  const [ready] = (await once(child, 'message')) as [Ready];
  const connection = new UnaryConnection(ready.address, {
    authorityPem: ready.authority,
    certificatePem: ready.certificate,
    privateKeyPem: ready.privateKey,
  });
  const request: AcquireLeaseRequest = {
    imageDigest: `sha256:${'0'.repeat(64)}`,
    imageKeyId: 'ik',
    nonce: Buffer.alloc(16),
    position: undefined,
    nodeTimeMs: 0,
  };
  return {
    pid: child.pid ?? 0,
    nodeAddress: ready.address,
    authorityPem: ready.authority,
    call: () => connection.call(NodesService.acquireLease, request),
    changeAll: () => child.send('change'),
    stop: () => {
      connection.close();
      child.kill('SIGTERM');
    },
  };
}

/** Answers are as long as real ones: about 900 bytes of lease, 400 of image key. */
const ANSWER = AcquireLeaseResponse.fromPartial({ lease: 'x'.repeat(900), imageKeyJwe: 'x'.repeat(400) });

const HEARTBEAT = WatchRevocationsResponse.fromPartial({ event: { $case: 'heartbeat', value: {} } });
const CHANGE = WatchRevocationsResponse.fromPartial({
  event: {
    $case: 'licenseChange',
    value: { licenseId: 'lic', state: 'SUSPENDED', denial: { message: 'x'.repeat(100) } },
  },
});

async function serve(): Promise<void> {
  const authorityPair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const nowMs = Date.now();
  const authorityCertificate = await createAuthority('bench', authorityPair, nowMs);
  const authority = { authorityCertificate, authorityKey: authorityPair.privateKey };
  const server = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issued = await issueServerCertificate(authority, server.publicKey, ['127.0.0.1'], nowMs);
  const certificate = authorityPem(issued);
  const privateKey = server.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const grpc = new Server();
  const streams = new Set<ServerWritableStream<WatchRevocationsRequest, WatchRevocationsResponse>>();
  grpc.addService(NodesService, {
    acquireLease: unaryHandler(async () => ANSWER),
    openSession: unaryHandler(async () => OpenSessionResponse.fromPartial({})),
    watchRevocations: (
      stream: ServerWritableStream<WatchRevocationsRequest, WatchRevocationsResponse>,
    ): void => {
      streams.add(stream);
      stream.on('cancelled', () => streams.delete(stream));
      stream.write(HEARTBEAT);
    },
  });
  // Whoever measures may be ended before he stops it.
  process.once('disconnect', () => {
    grpc.forceShutdown();
  });
  process.on('message', () => {
    for (const stream of streams) stream.write(CHANGE);
  });
  const tls = ServerCredentials.createSsl(
    Buffer.from(authorityPem(authorityCertificate)),
    [{ cert_chain: Buffer.from(certificate), private_key: Buffer.from(privateKey) }],
    false,
  );
  grpc.bindAsync('127.0.0.1:0', tls, (error, port) => {
    if (error !== null) throw error;
    const ready: Ready = {
      address: `127.0.0.1:${port}`,
      authority: authorityPem(authorityCertificate),
      certificate,
      privateKey,
    };
    process.send?.(ready);
  });
}

if (process.argv[2] === 'serve') await serve();

/** A gRPC server over mutual TLS that answers at once: what the protocol alone costs. Runs as its own process. */
import { type ChildProcess, fork } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { Metadata, Server, ServerCredentials, credentials } from '@grpc/grpc-js';
import {
  type AcquireLeaseRequest,
  AcquireLeaseResponse,
  NodesClient,
  NodesService,
} from '#src/wire/generated/latchkey/node.ts';
import { callUnary, unaryHandler } from '#src/wire/unary.ts';
import { createAuthority, issueServerCertificate } from '../keyserver/custody/certificate-authority.ts';
import { authorityPem } from '../keyserver/domain/organization.ts';

export interface IdleServer {
  readonly pid: number;
  call: () => Promise<unknown>;
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
  const client = new NodesClient(
    ready.address,
    credentials.createSsl(
      Buffer.from(ready.authority),
      Buffer.from(ready.privateKey),
      Buffer.from(ready.certificate),
    ),
  );
  const request: AcquireLeaseRequest = {
    imageDigest: `sha256:${'0'.repeat(64)}`,
    imageKeyId: 'ik',
    nonce: Buffer.alloc(16),
    position: undefined,
    nodeTimeMs: 0,
  };
  return {
    pid: child.pid ?? 0,
    call: () => callUnary(client.acquireLease.bind(client), request, new Metadata(), {}),
    stop: () => {
      client.close();
      child.kill('SIGTERM');
    },
  };
}

/** Answers are as long as real ones: about 900 bytes of lease, 400 of image key. */
const ANSWER = AcquireLeaseResponse.fromPartial({ lease: 'x'.repeat(900), imageKeyJwe: 'x'.repeat(400) });

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
  grpc.addService(NodesService, { acquireLease: unaryHandler(async () => ANSWER) });
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

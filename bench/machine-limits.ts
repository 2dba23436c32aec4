/** What one core and the disk of this machine allow, measured in the run whose figures they bound. */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect, createServer } from 'node:tls';
import { signToken } from '#src/crypto/sign-token.ts';
import { sealKey } from '#src/crypto/seal-key.ts';

const SECOND_MS = 1000;
const SHORT_MS = 500;
/** A commit of a lease and its audit event writes about as much. */
const COMMIT_BYTES = 16_384;

/** CPU microseconds to seal an image key and to sign a lease. */
export async function releaseCpuMicroseconds(): Promise<number> {
  const recipient = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
  const signer = generateKeyPairSync('ed25519').privateKey;
  const key = randomBytes(32);
  const claims = JSON.stringify({ text: 'x'.repeat(600) });
  return cpuMicrosecondsOf(() => [
    sealKey(recipient, key, 'latchkey-image-key-lease'),
    signToken('lease+jwt', claims, signer),
  ]);
}

/** CPU microseconds to sign a lease. */
export function signatureCpuMicroseconds(): Promise<number> {
  const signer = generateKeyPairSync('ed25519').privateKey;
  const claims = JSON.stringify({ text: 'x'.repeat(600) });
  return cpuMicrosecondsOf(() => signToken('lease+jwt', claims, signer));
}

async function cpuMicrosecondsOf(work: () => unknown): Promise<number> {
  for (const end = performance.now() + SHORT_MS; performance.now() < end;) await work();
  const before = process.cpuUsage();
  let count = 0;
  for (const end = performance.now() + SHORT_MS; performance.now() < end; count += 1) await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

/** CPU microseconds of both sides of a full TLS 1.3 handshake in which each shows a P-256 certificate. */
export async function handshakeCpuMicroseconds({ certificatePem, keyPem }: TlsIdentity): Promise<number> {
  const server = createServer({
    cert: certificatePem,
    key: keyPem,
    requestCert: true,
    rejectUnauthorized: false,
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const shake = async () => {
    const socket = connect({
      port,
      host: '127.0.0.1',
      cert: certificatePem,
      key: keyPem,
      rejectUnauthorized: false,
    });
    await once(socket, 'secureConnect');
    socket.destroy();
  };
  try {
    return await cpuMicrosecondsOf(shake);
  } finally {
    server.close();
  }
}

export interface TlsIdentity {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** Writes that are on the disk when they return, per second, one after the other. */
export function durableWritesPerSecond(directory: string): number {
  const path = join(directory, 'durable-writes');
  const bytes = Buffer.alloc(COMMIT_BYTES, 1);
  const file = openSync(path, 'w');
  let count = 0;
  const startedMs = performance.now();
  for (; performance.now() - startedMs < SHORT_MS; count += 1) {
    writeSync(file, bytes);
    fdatasyncSync(file);
  }
  const seconds = (performance.now() - startedMs) / SECOND_MS;
  closeSync(file);
  rmSync(path);
  return count / seconds;
}

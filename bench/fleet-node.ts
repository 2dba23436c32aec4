/**
 * A node as one of thousands in a process: HTTP/2 without a gRPC library around it, so that a benchmark's own work does
 * not hide the server's. It dials as an agent's channel does, with the agent's own pauses and TLS, and has no patience of
 * its own to lose: who waits, waits for the server.
 */
import { randomBytes } from 'node:crypto';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  connect,
} from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import {
  OpenSessionRequest,
  OpenSessionResponse,
  WatchRevocationsRequest,
  WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { REDIAL } from '../shim/agent/key-server.ts';
import { ResumedTls } from '../shim/agent/resumed-tls.ts';
import type { TlsIdentity } from './machine-limits.ts';

/** Before each message: whether it is compressed (never), and its length. */
const PREFIX_BYTES = 5;
/** As grpc-js spreads and lengthens its pauses (backoff-timeout.ts). */
const REDIAL_JITTER = 0.2;
const REDIAL_FACTOR = 1.6;

export interface FleetServer {
  readonly nodeAddress: string;
  readonly authorityPem: string;
}

export class FleetNode {
  readonly #identity: TlsIdentity;
  #tls: ResumedTls | undefined;
  #position = { sequence: 0, token: '' };
  #hasSession = false;
  #revision = 0;
  #connection: ClientHttp2Session | undefined;
  #onChange: (() => void) | undefined;

  constructor(identity: TlsIdentity) {
    this.#identity = identity;
  }

  /** A new agent on the same node: it has no ticket, and opens a session of its own. */
  restart(): void {
    this.close();
    this.#tls = undefined;
    this.#hasSession = false;
  }

  /**
   * Goes on dialling after an outage that was long, until it watches.
   * @returns how often it had to dial again
   */
  async comeBack(server: FleetServer): Promise<number> {
    let pauseMs: number = REDIAL.maxMs;
    await sleep(Math.random() * pauseMs);
    for (let failures = 0; ; failures += 1) {
      try {
        await this.watch(server);
        return failures;
      } catch {
        await sleep(pauseMs * (1 + REDIAL_JITTER * (2 * Math.random() - 1)));
        pauseMs = Math.min(REDIAL.maxMs, pauseMs * REDIAL_FACTOR);
      }
    }
  }

  /**
   * Connects, opens a session when it has none, and watches; resolves with the first message of the stream.
   * @throws Error when the connection ends before
   */
  async watch(server: FleetServer): Promise<void> {
    this.close();
    const connection = this.#connect(server);
    this.#connection = connection;
    try {
      await new Promise<void>((resolve, reject) => {
        connection.once('error', reject);
        connection.once('close', () => {
          reject(new Error('the connection was closed'));
        });
        this.#openAndWatch(connection).then(resolve, reject);
      });
      connection.on('error', () => undefined);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #connect({ nodeAddress, authorityPem }: FleetServer): ClientHttp2Session {
    const { certificatePem, keyPem } = this.#identity;
    this.#tls ??= new ResumedTls(
      createSecureContext({ ca: authorityPem, cert: certificatePem, key: keyPem }),
    );
    const tls = this.#tls;
    const { hostname: host, port } = new URL(`https://${nodeAddress}`);
    return connect(`https://${nodeAddress}`, {
      createConnection: () => tls.connect({ host, port: Number(port) }),
    });
  }

  async #openAndWatch(connection: ClientHttp2Session): Promise<void> {
    if (!this.#hasSession) await this.#openSession(connection);
    const watching = WatchRevocationsRequest.encode({
      afterRevision: this.#revision,
      position: { ...this.#position, counter: 0 },
    }).finish();
    const stream = post(connection, 'WatchRevocations', watching);
    await firstMessage(stream, (message) => {
      const { revision, event } = WatchRevocationsResponse.decode(message);
      this.#revision = revision;
      if (event?.$case === 'licenseChange') this.#onChange?.();
    });
  }

  async #openSession(connection: ClientHttp2Session): Promise<void> {
    const opening = OpenSessionRequest.encode({
      position: { ...this.#position, counter: 0 },
      requestId: randomBytes(16).toString('hex'),
      isRunning: false,
      machine: 'bench',
      boot: 'bench',
      bootTimeMs: Math.round(performance.now()),
      seenRevision: this.#revision,
    }).finish();
    const opened = await firstMessage(post(connection, 'OpenSession', opening));
    const { sequence, token } = OpenSessionResponse.decode(opened);
    this.#position = { sequence, token };
    this.#hasSession = true;
  }

  /** Resolves when the next change of a license arrives. */
  nextChange(): Promise<void> {
    return new Promise((resolve) => (this.#onChange = resolve));
  }

  close(): void {
    this.#connection?.destroy();
    this.#connection = undefined;
  }
}
function post(connection: ClientHttp2Session, method: string, message: Uint8Array): ClientHttp2Stream {
  const stream = connection.request({
    ':method': 'POST',
    ':path': `/latchkey.node.v1.Nodes/${method}`,
    'content-type': 'application/grpc+proto',
    te: 'trailers',
  });
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([prefix, message]));
  return stream;
}

/** The first message of an answer; all of them go to `onMessage`. */
function firstMessage(
  stream: ClientHttp2Stream,
  onMessage: (message: Buffer) => void = () => undefined,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let waiting = Buffer.alloc(0);
    stream.on('data', (chunk: Buffer) => {
      waiting = Buffer.concat([waiting, chunk]);
      while (waiting.length >= PREFIX_BYTES) {
        const end = PREFIX_BYTES + waiting.readUInt32BE(1);
        if (waiting.length < end) return;
        const message = waiting.subarray(PREFIX_BYTES, end);
        waiting = waiting.subarray(end);
        onMessage(message);
        resolve(message);
      }
    });
    stream.on('trailers', (trailers: IncomingHttpHeaders) => {
      reject(new Error(`the server answered ${String(trailers['grpc-status'])}`));
    });
    stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined && headers['grpc-status'] !== '0')
        reject(new Error(`the server answered ${String(headers['grpc-message'])}`));
    });
    stream.on('error', reject);
    stream.on('close', () => {
      reject(new Error('the stream was closed'));
    });
  });
}

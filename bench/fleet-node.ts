/**
 * A node as one of thousands in a process: HTTP/2 without a gRPC library around it, so that a benchmark's own work does
 * not hide the server's. It opens its session and then watches, as agents do.
 */
import { randomBytes } from 'node:crypto';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  connect,
} from 'node:http2';
import {
  OpenSessionRequest,
  OpenSessionResponse,
  WatchRevocationsRequest,
  WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';

import type { TlsIdentity } from './machine-limits.ts';

/** Before each message: whether it is compressed (never), and its length. */
const PREFIX_BYTES = 5;

export interface FleetServer {
  readonly nodeAddress: string;
  readonly authorityPem: string;
}

export class FleetNode {
  readonly #identity: TlsIdentity;
  #position = { sequence: 0, token: '' };
  #revision = 0;
  #connection: ClientHttp2Session | undefined;
  #onChange: (() => void) | undefined;

  constructor(identity: TlsIdentity) {
    this.#identity = identity;
  }

  /**
   * Connects, opens a session and watches; resolves with the first message of the stream.
   * @throws Error when the server did not get that far in time
   */
  async comeBack(server: FleetServer, timeoutMs: number): Promise<void> {
    this.close();
    const connection = connect(`https://${server.nodeAddress}`, {
      ca: server.authorityPem,
      cert: this.#identity.certificatePem,
      key: this.#identity.keyPem,
    });
    this.#connection = connection;
    const timer = setTimeout(() => connection.destroy(new Error('not served in time')), timeoutMs);
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
    } finally {
      clearTimeout(timer);
    }
  }

  async #openAndWatch(connection: ClientHttp2Session): Promise<void> {
    const opening = OpenSessionRequest.encode({
      position: { ...this.#position, counter: 0 },
      requestId: randomBytes(16).toString('hex'),
      isRunning: true,
      machine: 'bench',
      boot: 'bench',
      bootTimeMs: Math.round(performance.now()),
      seenRevision: this.#revision,
    }).finish();
    const opened = await firstMessage(post(connection, 'OpenSession', opening));
    const { sequence, token } = OpenSessionResponse.decode(opened);
    this.#position = { sequence, token };
    const watching = WatchRevocationsRequest.encode({
      afterRevision: this.#revision,
      position: { sequence, token, counter: 1 },
    }).finish();
    const stream = post(connection, 'WatchRevocations', watching);
    await firstMessage(stream, (message) => {
      const { revision, event } = WatchRevocationsResponse.decode(message);
      this.#revision = revision;
      if (event?.$case === 'licenseChange') this.#onChange?.();
    });
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

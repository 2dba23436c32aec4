/**
 * Unary gRPC calls with no more of a client than the wire asks for (gRPC over HTTP/2, PROTOCOL-HTTP2.md). The nodes of a key
 * server run elsewhere; the client of a benchmark shares the cores with the server that it measures, and a whole gRPC client
 * takes a third of what the server does.
 */
import { X509Certificate } from 'node:crypto';
import { type ClientHttp2Session, connect } from 'node:http2';
import type { MethodDefinition } from '@grpc/grpc-js';
import type { TestKeyServer } from '../lab/keyserver.ts';
import type { LicensedNode } from '../test/fakes/licensed-node.ts';

/** Whether it is compressed, and how long it is. */
const PREFIX_BYTES = 5;

export interface ClientIdentity {
  readonly authorityPem: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

export class UnaryConnection {
  readonly #session: ClientHttp2Session;

  /** @param address `host:port` */
  constructor(address: string, { authorityPem, certificatePem, privateKeyPem }: ClientIdentity) {
    this.#session = connect(`https://${address}`, {
      ca: authorityPem,
      cert: certificatePem,
      key: privateKeyPem,
    });
  }

  /** As a node that was activated. */
  static ofNode(
    { nodeAddress, authorityPem }: TestKeyServer,
    { activation, key }: LicensedNode,
  ): UnaryConnection {
    return new UnaryConnection(nodeAddress, {
      authorityPem,
      certificatePem: new X509Certificate(activation.certificateDer).toString(),
      privateKeyPem: key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    });
  }

  call<Request, Response>(method: MethodDefinition<Request, Response>, request: Request): Promise<Response> {
    const message = method.requestSerialize(request);
    const framed = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
    framed[0] = 0;
    framed.writeUInt32BE(message.length, 1);
    framed.set(message, PREFIX_BYTES);
    const stream = this.#session.request({
      ':method': 'POST',
      ':path': method.path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let status = 'no status';
      // Where there is no message, the headers say how it went.
      const noteStatus = (headers: object): void => {
        if ('grpc-status' in headers) status = String(headers['grpc-status']);
      };
      stream.on('response', noteStatus);
      stream.on('trailers', noteStatus);
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', reject);
      stream.on('end', () => {
        if (status === '0') resolve(method.responseDeserialize(Buffer.concat(chunks).subarray(PREFIX_BYTES)));
        else reject(new Error(`${method.path} ended with gRPC status ${status}`));
      });
      stream.end(framed);
    });
  }

  close(): void {
    this.#session.close();
  }
}

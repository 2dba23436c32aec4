/**
 * gRPC's TLS credentials, with tickets: those of grpc-js make a whole handshake for every connection, and offer no place
 * for a ticket.
 */
import { CallCredentials, ChannelCredentials, type experimental } from '@grpc/grpc-js';
import type { ResumedTls } from './resumed-tls.ts';

export class ResumingCredentials extends ChannelCredentials {
  readonly #tls: ResumedTls;
  readonly #host: string;

  /** @param host whose certificate the other end has to show */
  constructor(host: string, tls: ResumedTls) {
    super();
    this.#host = host;
    this.#tls = tls;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    _target: unknown,
    _options: unknown,
    callCredentials = CallCredentials.createEmpty(),
  ): experimental.SecureConnector {
    return {
      connect: (socket) =>
        new Promise((resolve, reject) => {
          const secure = this.#tls.connect({ socket, host: this.#host });
          // The first outcome counts.
          secure.once('secureConnect', () => {
            resolve({ socket: secure, secure: true });
          });
          secure.on('error', reject);
          secure.once('close', () => {
            reject(new Error('the connection was closed during the handshake'));
          });
        }),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials,
      destroy: () => undefined,
    };
  }
}

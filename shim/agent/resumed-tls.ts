/**
 * TLS to the key server that takes up where the connection before has ended: a handshake with a ticket takes half the work
 * of one with certificates (measured), and after an outage every node makes one. The ticket is as good as the certificate
 * that it was got with: the key server still sees whose it is, and looks that up for every call.
 */
import { isIP } from 'node:net';
import { type ConnectionOptions, type SecureContext, type TLSSocket, connect } from 'node:tls';

export class ResumedTls {
  readonly #secureContext: SecureContext;
  /** The newest one; memory is enough, since a new agent does once without. */
  #ticket: Buffer | undefined;

  /** @param secureContext of one certificate; each gets tickets of its own */
  constructor(secureContext: SecureContext) {
    this.#secureContext = secureContext;
  }

  /**
   * Begins a handshake. A key server that does not take the ticket makes it a whole one.
   * @param host whose certificate the other end has to show
   */
  connect({ host, ...options }: ConnectionOptions & { readonly host: string }): TLSSocket {
    const socket = connect({
      ...options,
      host,
      // Proxies route by the name; addresses are none (RFC 6066).
      ...(isIP(host) === 0 ? { servername: host } : {}),
      secureContext: this.#secureContext,
      ALPNProtocols: ['h2'],
      ...(this.#ticket === undefined ? {} : { session: this.#ticket }),
    });
    socket.on('session', (ticket) => (this.#ticket = ticket));
    return socket;
  }
}

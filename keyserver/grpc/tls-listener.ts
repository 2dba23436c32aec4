/**
 * TLS for nodes: accepts connections, bounds what strangers can hold open before they have said anything, and passes on
 * what speaks TLS 1.3 and HTTP/2. gRPC's own listener would leave a silent connection open for two minutes.
 */
import type { AddressInfo, Socket } from 'node:net';
import { type TLSSocket, createServer } from 'node:tls';
import { systemErrorCode } from '#src/base/errors.ts';
import { SECOND_MS } from '#src/base/units.ts';
import {
  ACCEPT_BACKLOG,
  MAX_NODE_CONNECTIONS,
  MAX_PENDING_HANDSHAKES,
  TLS_HANDSHAKE_TIMEOUT_MS,
  TLS_TICKET_LIFETIME_MS,
} from '../limits.ts';
import { addressGroup } from '../rate-limit.ts';

const WENT_AWAY: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ERR_TLS_HANDSHAKE_TIMEOUT']);

export interface TlsListenerOptions {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  readonly authorityPem: string;
  /** The server's own, with the authority's behind it. */
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** Whether a client has to show a certificate of the authority. */
  readonly requiresCertificate: boolean;
  /** Of the tickets with which clients come back; without it they are good for nothing but this process. */
  readonly ticketKey?: Buffer;
  /** Told of a client whose handshake failed; one that went away or fell silent is none. */
  readonly onRefused?: (address: string) => void;
}

export interface TlsListenerLimits {
  readonly maxConnections: number;
  readonly maxPendingHandshakes: number;
  readonly handshakeTimeoutMs: number;
}

const LIMITS: TlsListenerLimits = {
  maxConnections: MAX_NODE_CONNECTIONS,
  maxPendingHandshakes: MAX_PENDING_HANDSHAKES,
  handshakeTimeoutMs: TLS_HANDSHAKE_TIMEOUT_MS,
};

export interface TlsListener {
  readonly port: number;
  /** From now on only tickets of this key are taken. */
  setTicketKey(key: Buffer): void;
  /** Takes no further connections and drops those that are not established. */
  close(): void;
}

/**
 * Listens until it is closed.
 * @param onConnection gets each established connection
 * @throws the system's error when the address cannot be bound
 */
export function listenTls(
  options: TlsListenerOptions,
  onConnection: (socket: TLSSocket) => void,
  limits: TlsListenerLimits = LIMITS,
): Promise<TlsListener> {
  const pending = new PendingHandshakes(limits.maxPendingHandshakes);
  const server = createServer({
    ca: options.authorityPem,
    cert: options.certificatePem,
    key: options.privateKeyPem,
    requestCert: options.requiresCertificate,
    rejectUnauthorized: options.requiresCertificate,
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['h2'],
    handshakeTimeout: limits.handshakeTimeoutMs,
    sessionTimeout: TLS_TICKET_LIFETIME_MS / SECOND_MS,
    // Otherwise it is a hash of this process's arguments, and no other key server takes the ticket.
    sessionIdContext: options.requiresCertificate ? 'latchkey-nodes' : 'latchkey-anybody',
    ...(options.ticketKey === undefined ? {} : { ticketKeys: options.ticketKey }),
  });
  server.maxConnections = limits.maxConnections;
  server.on('connection', (socket: Socket) => {
    pending.add(socket);
  });
  server.on('tlsClientError', (error: Error, socket: TLSSocket) => {
    pending.delete(socket);
    const isRefused = isDistrusted(socket) || !WENT_AWAY.has(systemErrorCode(error) ?? '');
    if (isRefused) options.onRefused?.(addressOf(socket));
    socket.destroy();
  });
  server.on('secureConnection', (socket) => {
    pending.delete(socket);
    // Whatever goes wrong on the wire ends the connection, and nothing else.
    socket.on('error', () => undefined);
    // A client that asks for no protocol gets this far.
    if (socket.alpnProtocol === 'h2') onConnection(socket);
    else socket.destroy();
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: options.host, port: options.port, backlog: ACCEPT_BACKLOG }, () => {
      server.off('error', reject);
      // Such as too many open files: the next connection may come about.
      server.on('error', () => undefined);
      resolve({
        port: (server.address() as AddressInfo).port,
        setTicketKey: (key) => {
          server.setTicketKeys(key);
        },
        close: () => {
          server.close();
          pending.dropAll();
        },
      });
    });
  });
}

/** True when its certificate is none of the authority's; Node.js ends it then as if the client had gone away. */
function isDistrusted({ authorizationError }: { readonly authorizationError: unknown }): boolean {
  return authorizationError !== null;
}

/** Where a client came from; a TLS socket that has ended does not know it any more, the one below it does. */
function addressOf(socket: TLSSocket & { readonly _parent?: Socket | null }): string {
  return socket.remoteAddress ?? socket._parent?.remoteAddress ?? '';
}

/** Of the other end; a TLS socket has the same as the socket below it. */
function nameOf(socket: Socket): string {
  return `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;
}

/** Connections whose handshake is not over. When there are too many, one of whoever has the most is dropped. */
class PendingHandshakes {
  readonly #max: number;
  #size = 0;
  /** By address, the oldest first. */
  readonly #groups = new Map<string, Map<string, Socket>>();

  constructor(max: number) {
    this.#max = max;
  }

  add(socket: Socket): void {
    const group = addressGroup(socket.remoteAddress ?? '');
    const name = nameOf(socket);
    // Who resets a connection can come again from the same port before the first one is closed here.
    this.#forget(group, name);
    const sockets = this.#groups.get(group) ?? new Map<string, Socket>();
    this.#groups.set(group, sockets);
    sockets.set(name, socket);
    this.#size += 1;
    socket.once('close', () => {
      if (sockets.get(name) === socket) this.#forget(group, name);
    });
    if (this.#size > this.#max) this.#dropOne();
  }

  delete(socket: Socket): void {
    this.#forget(addressGroup(socket.remoteAddress ?? ''), nameOf(socket));
  }

  dropAll(): void {
    for (const sockets of [...this.#groups.values()]) for (const socket of sockets.values()) socket.destroy();
  }

  #forget(group: string, name: string): void {
    const sockets = this.#groups.get(group);
    if (sockets?.delete(name) !== true) return;
    this.#size -= 1;
    if (sockets.size === 0) this.#groups.delete(group);
  }

  #dropOne(): void {
    const [group, sockets] = [...this.#groups].reduce((most, one) =>
      one[1].size > most[1].size ? one : most,
    );
    const [oldest] = sockets;
    if (oldest === undefined) return;
    const [name, socket] = oldest;
    this.#forget(group, name);
    socket.destroy();
  }
}

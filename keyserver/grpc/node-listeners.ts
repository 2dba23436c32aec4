/** The two listeners for nodes: enrollment over TLS, everything else over mutual TLS. */
import type { TLSSocket } from 'node:tls';
import {
  Server,
  ServerCredentials,
  type ServerOptions,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import {
  MAX_CALLS_PER_CONNECTION,
  MAX_ENROLLMENT_CALLS,
  MAX_NODE_CALLS,
  MAX_NODE_MESSAGE_BYTES,
  SHUTDOWN_GRACE_MS,
} from '../limits.ts';
import { parseListen } from '../arguments.ts';
import type { ConnectionLimits } from '../connection-limits.ts';
import { EnrollmentService, NodesService } from '#src/wire/generated/latchkey/node.ts';
import type { ListenerCertificate } from '../custody/listener-certificate.ts';
import { ChangeReader } from '../domain/change-reader.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { sealed } from '../domain/seal.ts';
import type { Rates } from '../rates.ts';
import { boundedCalls } from './bounded-calls.ts';
import type { CallLog } from './call-log.ts';
import type { KeyServerMetrics } from '../metrics/key-server-metrics.ts';
import { enrollmentService } from './enrollment-service.ts';
import { NodeConnections } from './node-connections.ts';
import { nodesService } from './nodes-service.ts';
import { numberedCalls } from './numbered-calls.ts';
import { observedService } from './observed-service.ts';
import { OpenStreams } from './revocation-stream.ts';
import { endWhenSilent } from './silent-connections.ts';
import { ticketKey } from './ticket-key.ts';
import { type TlsListener, type TlsListenerOptions, listenTls } from './tls-listener.ts';
import { unlessSealed } from './unless-sealed.ts';

export interface NodeListenerOptions {
  /** `host:port`; port 0 = any free one. */
  readonly enrollListen: string;
  readonly nodeListen: string;
  readonly rates: Pick<Rates, 'address' | 'node'>;
  readonly connections: ConnectionLimits;
}

/** What the listeners show to nodes, and what they check nodes with. */
export interface ListenerIdentity extends ListenerCertificate {
  readonly authorityPem: string;
}

export interface NodeListeners {
  /** `host:port` with the real port. */
  readonly enrollAddress: string;
  readonly nodeAddress: string;
  /** Nodes that watch for revocations, now. */
  watchers(): number;
  /** The key server was unsealed or sealed: tickets are of the keys that there are now, and no stream goes on without. */
  sealChanged(): void;
  /** Ends the streams, waits a moment for calls under way, then closes. */
  stop(): Promise<void>;
}

/** @throws LatchkeyError STATE_PORT_IN_USE, USAGE_INVALID for an address that cannot be bound */
export async function startNodeListeners(
  server: KeyServer,
  identity: ListenerIdentity,
  options: NodeListenerOptions,
  log: CallLog,
  metrics: KeyServerMetrics,
): Promise<NodeListeners> {
  const changes = new ChangeReader(server);
  const streams = new OpenStreams(server, changes, log);
  const guarded = (
    definition: ServiceDefinition,
    service: UntypedServiceImplementation,
    maxCalls: number,
  ): UntypedServiceImplementation => {
    const bound = boundedCalls(service, definition, { maxCalls, random: server.random }, log);
    const observed = observedService(definition, unlessSealed(bound, server, log), metrics, server.clock);
    return numberedCalls(observed);
  };
  const { connections } = options;
  const enrollment = newServer(connections, {
    'grpc.max_connection_idle_ms': connections.enrollmentIdleMs,
    'grpc.max_connection_age_ms': connections.enrollmentAgeMs,
    'grpc.max_connection_age_grace_ms': connections.ageGraceMs,
  });
  const enrolling = enrollmentService(server, options.rates.address, log);
  enrollment.addService(
    EnrollmentService,
    guarded(EnrollmentService, { ...enrolling }, MAX_ENROLLMENT_CALLS),
  );
  const nodes = newServer(connections, { 'grpc.max_connection_idle_ms': connections.nodeIdleMs });
  const serving = nodesService(server, { rate: options.rates.node, streams, changes, log });
  nodes.addService(NodesService, guarded(NodesService, { ...serving }, MAX_NODE_CALLS));
  const listeners: TlsListener[] = [];
  const ofNodes = new NodeConnections();
  const listen = async (to: Server, address: string, requiresCertificate: boolean): Promise<TlsListener> => {
    const onRefused = (from: string): void => {
      // To the other port everybody may come.
      if (requiresCertificate) server.refusals.count('node-handshake', from);
    };
    // TLS is done already when gRPC gets a connection.
    const injector = to.createConnectionInjector(ServerCredentials.createInsecure());
    // Whoever comes to enrol does not come back.
    const tickets = requiresCertificate ? { ticketKey: ticketKey(server) } : {};
    const parts = { ...identity, requiresCertificate, onRefused, ...tickets };
    const listener = await bind(address, parts, (socket) => {
      if (requiresCertificate) ofNodes.add(socket);
      endWhenSilent(socket, connections.keepaliveMs + connections.keepaliveTimeoutMs);
      injector.injectConnection(socket);
    });
    listeners.push(listener);
    return listener;
  };
  try {
    const enrollmentListener = await listen(enrollment, options.enrollListen, false);
    const nodeListener = await listen(nodes, options.nodeListen, true);
    return {
      enrollAddress: withPort(options.enrollListen, enrollmentListener.port),
      nodeAddress: withPort(options.nodeListen, nodeListener.port),
      watchers: () => streams.count,
      sealChanged: () => {
        nodeListener.setTicketKey(ticketKey(server));
        if (server.seal.isSealed) streams.closeAll(sealed());
      },
      stop: async () => {
        for (const listener of listeners) listener.close();
        streams.closeAll(stopping());
        await Promise.all([shutDown(enrollment), shutDown(nodes)]);
      },
    };
  } catch (error) {
    for (const listener of listeners) listener.close();
    enrollment.forceShutdown();
    nodes.forceShutdown();
    throw error;
  }
}

function withPort(address: string, port: number): string {
  return `${address.slice(0, address.lastIndexOf(':'))}:${port}`;
}

function stopping(): LatchkeyError {
  return new LatchkeyError('NET_UNREACHABLE', 'the key server is stopping', {
    hint: 'the node connects again by itself',
  });
}

function newServer(connections: ConnectionLimits, options: ServerOptions): Server {
  return new Server({
    'grpc.max_receive_message_length': MAX_NODE_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': MAX_CALLS_PER_CONNECTION,
    'grpc.keepalive_time_ms': connections.keepaliveMs,
    'grpc.keepalive_timeout_ms': connections.keepaliveTimeoutMs,
    ...options,
  });
}

async function bind(
  address: string,
  identity: ListenerIdentity & Pick<TlsListenerOptions, 'requiresCertificate' | 'onRefused' | 'ticketKey'>,
  onConnection: (socket: TLSSocket) => void,
): Promise<TlsListener> {
  const certificatePem = identity.certificatePem + identity.authorityPem;
  try {
    const options = { ...identity, ...parseListen(address, 'node-listen'), certificatePem };
    return await listenTls(options, onConnection);
  } catch (error) {
    throw bindError(address, error);
  }
}

function bindError(address: string, cause: unknown): LatchkeyError {
  if (systemErrorCode(cause) === 'EADDRINUSE') {
    return new LatchkeyError('STATE_PORT_IN_USE', `another program listens on ${address}`, {
      hint: 'stop it or choose another port',
      cause,
    });
  }
  return new LatchkeyError('USAGE_INVALID', `cannot listen on ${address}`, {
    hint: 'give an address of this machine and a port',
    cause,
  });
}

function shutDown(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const force = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, SHUTDOWN_GRACE_MS);
    server.tryShutdown(() => {
      clearTimeout(force);
      resolve();
    });
  });
}

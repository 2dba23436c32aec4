/** The two listeners for nodes: enrollment over TLS, everything else over mutual TLS. */
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_NODE_MESSAGE_BYTES, SHUTDOWN_GRACE_MS } from '../limits.ts';
import { EnrollmentService, NodesService } from '#src/wire/generated/latchkey/node.ts';
import type { ListenerCertificate } from '../custody/listener-certificate.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { sealed } from '../domain/seal.ts';
import type { Rates } from '../rates.ts';
import type { CallLog } from './call-log.ts';
import type { KeyServerMetrics } from '../metrics/key-server-metrics.ts';
import { enrollmentService } from './enrollment-service.ts';
import { nodesService } from './nodes-service.ts';
import { observedService } from './observed-service.ts';
import { OpenStreams } from './revocation-stream.ts';
import { unlessSealed } from './unless-sealed.ts';

/** Nodes that hang are noticed, and middle boxes see that a connection is in use. */
const KEEPALIVE_MS = 30_000;

export interface NodeListenerOptions {
  /** `host:port`; port 0 = any free one. */
  readonly enrollListen: string;
  readonly nodeListen: string;
  readonly rates: Pick<Rates, 'address' | 'node'>;
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
  /** Ends the streams of a key server that was sealed. */
  endSealed(): void;
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
  const authority = Buffer.from(identity.authorityPem);
  const pair = {
    cert_chain: Buffer.from(identity.certificatePem + identity.authorityPem),
    private_key: Buffer.from(identity.privateKeyPem),
  };
  const streams = new OpenStreams(server, log);
  const guarded = (definition: ServiceDefinition, service: UntypedServiceImplementation) =>
    observedService(definition, unlessSealed(service, server, log), metrics, server.clock);
  const enrollment = newServer();
  const enrolling = enrollmentService(server, options.rates.address, log);
  enrollment.addService(EnrollmentService, guarded(EnrollmentService, { ...enrolling }));
  const nodes = newServer();
  const serving = nodesService(server, options.rates.node, streams, log);
  nodes.addService(NodesService, guarded(NodesService, { ...serving }));
  try {
    const enrollAddress = await bind(
      enrollment,
      options.enrollListen,
      ServerCredentials.createSsl(authority, [pair], false),
    );
    const nodeAddress = await bind(
      nodes,
      options.nodeListen,
      ServerCredentials.createSsl(authority, [pair], true),
    );
    return {
      enrollAddress,
      nodeAddress,
      watchers: () => streams.count,
      endSealed: () => {
        streams.closeAll(sealed());
      },
      stop: async () => {
        streams.closeAll(stopping());
        await Promise.all([shutDown(enrollment), shutDown(nodes)]);
      },
    };
  } catch (error) {
    enrollment.forceShutdown();
    nodes.forceShutdown();
    throw error;
  }
}

function stopping(): LatchkeyError {
  return new LatchkeyError('NET_UNREACHABLE', 'the key server is stopping', {
    hint: 'the node connects again by itself',
  });
}

function newServer(): Server {
  return new Server({
    'grpc.max_receive_message_length': MAX_NODE_MESSAGE_BYTES,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
  });
}

function bind(server: Server, address: string, credentials: ServerCredentials): Promise<string> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) resolve(`${address.slice(0, address.lastIndexOf(':'))}:${port}`);
      else reject(bindError(address, error));
    });
  });
}

/** grpc-js gives one sentence instead of the system's code. */
function bindError(address: string, error: Error): LatchkeyError {
  if (error.message.includes('EADDRINUSE')) {
    return new LatchkeyError('STATE_PORT_IN_USE', `another program listens on ${address}`, {
      hint: 'stop it or choose another port',
      cause: error,
    });
  }
  return new LatchkeyError('USAGE_INVALID', `cannot listen on ${address}`, {
    hint: 'give an address of this machine and a port',
    cause: error,
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

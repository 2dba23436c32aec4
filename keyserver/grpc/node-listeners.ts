/** The two listeners for nodes: enrollment over TLS, everything else over mutual TLS. */
import { generateKeyPair as generateKeyPairCallback } from 'node:crypto';
import { promisify } from 'node:util';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_NODE_MESSAGE_BYTES, SHUTDOWN_GRACE_MS } from '../limits.ts';
import { EnrollmentService, NodesService } from '#src/wire/generated/latchkey/node.ts';
import { issueServerCertificate } from '../custody/certificate-authority.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { authorityPem } from '../domain/organization.ts';
import type { Rates } from '../rates.ts';
import type { CallLog } from './call-log.ts';
import { enrollmentService } from './enrollment-service.ts';
import { nodesService } from './nodes-service.ts';
import { OpenStreams } from './revocation-stream.ts';

const generateKeyPair = promisify(generateKeyPairCallback);

/** Nodes that hang are noticed, and middle boxes see that a connection is in use. */
const KEEPALIVE_MS = 30_000;
/** Always in the certificate: the demo, tests and a node beside the server use them. */
const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '::1'];

export interface NodeListenerOptions {
  /** `host:port`; port 0 = any free one. */
  readonly enrollListen: string;
  readonly nodeListen: string;
  /** Names and addresses under which nodes reach this server. */
  readonly hostnames: readonly string[];
  readonly rates: Pick<Rates, 'address' | 'node'>;
}

export interface NodeListeners {
  /** `host:port` with the real port. */
  readonly enrollAddress: string;
  readonly nodeAddress: string;
  /** Ends the streams, waits a moment for calls under way, then closes. */
  stop(): Promise<void>;
}

/** @throws LatchkeyError STATE_PORT_IN_USE, USAGE_INVALID for an address that cannot be bound */
export async function startNodeListeners(
  server: KeyServer,
  options: NodeListenerOptions,
  log: CallLog,
): Promise<NodeListeners> {
  const { publicKey, privateKey } = await generateKeyPair('ec', { namedCurve: 'P-256' });
  const names = [...new Set([...LOOPBACK_NAMES, ...options.hostnames])];
  const certificate = await issueServerCertificate(server.keys, publicKey, names, server.clock.nowMs());
  const authority = Buffer.from(authorityPem(server.keys.authorityCertificate));
  const pair = {
    cert_chain: Buffer.concat([Buffer.from(authorityPem(certificate)), authority]),
    private_key: Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' })),
  };
  const streams = new OpenStreams(server, log);
  const enrollment = newServer();
  enrollment.addService(EnrollmentService, enrollmentService(server, options.rates.address, log));
  const nodes = newServer();
  nodes.addService(NodesService, nodesService(server, options.rates.node, streams, log));
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
      stop: async () => {
        streams.closeAll();
        await Promise.all([shutDown(enrollment), shutDown(nodes)]);
      },
    };
  } catch (error) {
    enrollment.forceShutdown();
    nodes.forceShutdown();
    throw error;
  }
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

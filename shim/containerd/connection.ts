/** A connection to containerd's gRPC socket; every call names its namespace, as containerd requires. */
import { type CallOptions, Metadata, credentials } from '@grpc/grpc-js';
import type { LatchkeyError } from '#src/base/errors.ts';
import { MEBIBYTE } from '#src/base/units.ts';
import { ContainersClient } from '#src/wire/generated/containerd/containers.ts';
import { ContentClient } from '#src/wire/generated/containerd/content.ts';
import { DiffClient } from '#src/wire/generated/containerd/diff.ts';
import { EventsClient } from '#src/wire/generated/containerd/events.ts';
import { ImagesClient } from '#src/wire/generated/containerd/images.ts';
import { LeasesClient } from '#src/wire/generated/containerd/leases.ts';
import { NamespacesClient } from '#src/wire/generated/containerd/namespaces.ts';
import { SnapshotsClient } from '#src/wire/generated/containerd/snapshots.ts';
import { TasksClient } from '#src/wire/generated/containerd/tasks.ts';
import { VersionClient } from '#src/wire/generated/containerd/version.ts';
import { ImageServiceClient } from '#src/wire/generated/cri/runtime.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';

/**
 * containerd answers from local state; longer means it hangs. Changes wait for one another on a slow disk: with a thousand
 * snapshots made at once more than ten seconds were seen. Unpacking a layer has its own limit.
 */
const CALL_TIMEOUT_MS = 30_000;

/**
 * The agent is started before containerd, and outlives it. gRPC would wait up to two minutes before it looks at the socket
 * again, and refuse every start until then; looking costs nothing on the same machine.
 */
const RECONNECT = { 'grpc.initial_reconnect_backoff_ms': 50, 'grpc.max_reconnect_backoff_ms': 250 };

/**
 * What containerd may send before it hears that it has arrived. A full node's list of containers has some megabytes; with
 * HTTP/2's 64 KiB it took twice the CPU time (measured).
 */
const WINDOW_BYTES = 4 * MEBIBYTE;

/** Several looks at the socket. */
const REACHABLE_TIMEOUT_MS = 2000;

const CLIENTS = {
  containers: ContainersClient,
  content: ContentClient,
  criImages: ImageServiceClient,
  diff: DiffClient,
  events: EventsClient,
  images: ImagesClient,
  leases: LeasesClient,
  namespaces: NamespacesClient,
  snapshots: SnapshotsClient,
  tasks: TasksClient,
  version: VersionClient,
} as const;

type Clients = { readonly [Name in keyof typeof CLIENTS]: InstanceType<(typeof CLIENTS)[Name]> };

export class ContainerdConnection {
  readonly clients: Clients;
  readonly address: string;

  /** @param address path of containerd's socket */
  constructor(address: string) {
    this.address = address;
    const options = {
      // containerd's server insists on a host-like authority, which a socket path is not.
      'grpc.default_authority': 'localhost',
      'grpc.max_receive_message_length': -1,
      // Statistics that nobody reads cost a tenth of each call.
      'grpc.enable_channelz': 0,
      'grpc-node.flow_control_window': WINDOW_BYTES,
      ...RECONNECT,
    };
    const entries = Object.entries(CLIENTS).map(([name, ClientClass]) => [
      name,
      new ClientClass(`unix://${address}`, credentials.createInsecure(), options),
    ]);
    this.clients = Object.fromEntries(entries) as Clients;
  }

  /** Metadata that puts a call into a namespace. */
  inNamespace(namespace: string): Metadata {
    const metadata = new Metadata();
    if (namespace !== '') metadata.set('containerd-namespace', namespace);
    return metadata;
  }

  /** One call, as a promise, with our errors. */
  async call<Request, Response>(
    method: Parameters<typeof callUnary<Request, Response>>[0],
    request: Request,
    namespace: string,
    options: Partial<CallOptions> = {},
  ): Promise<Response> {
    const deadline = { deadline: Date.now() + CALL_TIMEOUT_MS };
    try {
      return await callUnary(method, request, this.inNamespace(namespace), { ...deadline, ...options });
    } catch (error) {
      throw this.explain(error);
    }
  }

  /** A failed call as our error, naming containerd. */
  explain(error: unknown): LatchkeyError {
    return fromGrpcError(error, `containerd at ${this.address}`);
  }

  /** containerd's version, as it says it. */
  async version(): Promise<string> {
    const { version } = this.clients;
    return (await this.call(version.version.bind(version), {}, '')).version;
  }

  async namespaces(): Promise<string[]> {
    const { namespaces } = this.clients;
    const answer = await this.call(namespaces.list.bind(namespaces), { filter: '' }, '');
    return answer.namespaces.map(({ name }) => name);
  }

  /**
   * Waits a moment for the line to containerd: who has just been asked something by it knows that it is there, although gRPC
   * may not have looked yet. Never fails; what is called next says what is wrong.
   */
  untilReachable(): Promise<void> {
    return new Promise((resolve) => {
      this.clients.content.waitForReady(Date.now() + REACHABLE_TIMEOUT_MS, () => {
        resolve();
      });
    });
  }

  close(): void {
    for (const client of Object.values(this.clients)) client.close();
  }
}

/** The gRPC status that containerd has answered with, of an error of `call`; undefined when it did not answer. */
export function answeredStatus(error: unknown): number | undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'number' ? cause.code : undefined;
}

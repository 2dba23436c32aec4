/**
 * Stands between containerd and the agent's snapshotter and passes every call on, so that a test can end one of the two
 * at an exact point of a call. Nothing else about the calls changes.
 */
import {
  type ClientUnaryCall,
  Client,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedServiceImplementation,
  credentials,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { SnapshotsService } from '#src/wire/generated/containerd/snapshots.ts';

export type SnapshotMethod = keyof typeof SnapshotsService;

/** Before the agent has the call; when it has answered and containerd does not know; when containerd has the answer. */
export const CALL_MOMENTS = ['arrived', 'answered', 'delivered'] as const;
export type CallMoment = (typeof CALL_MOMENTS)[number];

export interface ProxiedCall {
  readonly method: SnapshotMethod;
  /** Of the snapshot; empty for calls about none. */
  readonly key: string;
}

/** Gives true when the call is to be lost: containerd is told that nobody is there. */
export type CallHook = (call: ProxiedCall, moment: CallMoment) => Promise<boolean>;

/** A dead agent is gone at once, and one that is back is found soon. */
const CHANNEL_OPTIONS = {
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 200,
};

const CONNECT_TIMEOUT_MS = 60_000;

const LOST = { code: status.UNAVAILABLE, details: 'the snapshotter is gone' };

export class SnapshotterProxy {
  readonly #server = new Server();
  readonly #agent: Client;
  hook: CallHook = () => Promise.resolve(false);

  private constructor(agentSocket: string) {
    this.#agent = new Client(`unix://${agentSocket}`, credentials.createInsecure(), CHANNEL_OPTIONS);
  }

  /** Listens on one socket for calls to another. */
  static async start(socketPath: string, agentSocket: string): Promise<SnapshotterProxy> {
    const proxy = new SnapshotterProxy(agentSocket);
    proxy.#server.addService(SnapshotsService, proxy.#handlers());
    await new Promise<void>((resolve, reject) => {
      proxy.#server.bindAsync(`unix://${socketPath}`, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
    return proxy;
  }

  /** Waits until an agent that is back has been found: gRPC refuses calls until it looks again. */
  untilConnected(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#agent.waitForReady(Date.now() + CONNECT_TIMEOUT_MS, (error) => {
        if (error === undefined) resolve();
        else reject(error);
      });
    });
  }

  close(): void {
    this.#server.forceShutdown();
    this.#agent.close();
  }

  #handlers(): UntypedServiceImplementation {
    const methods = Object.keys(SnapshotsService) as SnapshotMethod[];
    return Object.fromEntries(
      methods.map((method) => [
        method,
        method === 'list'
          ? (call: ServerWritableStream<unknown, unknown>) => {
              void this.#passStream(method, call);
            }
          : (call: ServerUnaryCall<unknown, unknown>, answer: sendUnaryData<unknown>) => {
              void this.#passUnary(method, call, answer);
            },
      ]),
    );
  }

  async #passUnary(
    method: SnapshotMethod,
    call: ServerUnaryCall<unknown, unknown>,
    answer: sendUnaryData<unknown>,
  ): Promise<void> {
    const proxied = { method, key: keyOf(call.request) };
    if (await this.hook(proxied, 'arrived')) {
      answer(LOST);
      return;
    }
    const result = await this.#ask(method, call.request, call.metadata, (upstream) => {
      call.on('cancelled', () => {
        upstream.cancel();
      });
    });
    if (await this.hook(proxied, 'answered')) {
      answer(LOST);
      return;
    }
    answer(...result);
    await this.hook(proxied, 'delivered');
  }

  #ask(
    method: SnapshotMethod,
    request: unknown,
    metadata: Metadata,
    onCall: (upstream: ClientUnaryCall) => void,
  ): Promise<Parameters<sendUnaryData<unknown>>> {
    const { path, requestSerialize, responseDeserialize } = definition(method);
    return new Promise((resolve) => {
      const upstream = this.#agent.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        (error, response) => {
          resolve(error === null ? [null, response] : [error]);
        },
      );
      onCall(upstream);
    });
  }

  async #passStream(method: SnapshotMethod, call: ServerWritableStream<unknown, unknown>): Promise<void> {
    const proxied = { method, key: '' };
    if (await this.hook(proxied, 'arrived')) {
      call.emit('error', LOST);
      return;
    }
    const { path, requestSerialize, responseDeserialize } = definition(method);
    const stream = this.#agent.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      call.request,
      call.metadata,
    );
    try {
      for await (const message of stream) call.write(message);
    } catch (error) {
      call.emit('error', error);
      return;
    }
    if (await this.hook(proxied, 'answered')) {
      call.emit('error', LOST);
      return;
    }
    call.end();
    await this.hook(proxied, 'delivered');
  }
}

interface AnyDefinition {
  readonly path: string;
  readonly requestSerialize: (value: unknown) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => unknown;
}

/** The types of one method are of no interest to whom only passes it on. */
function definition(method: SnapshotMethod): AnyDefinition {
  return SnapshotsService[method] as unknown as AnyDefinition;
}

function keyOf(request: unknown): string {
  if (typeof request !== 'object' || request === null) return '';
  return 'key' in request && typeof request.key === 'string' ? request.key : '';
}

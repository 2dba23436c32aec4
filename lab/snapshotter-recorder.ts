/** Stands between containerd and the snapshotter and writes down what is asked, so that tests see what a step calls. */
import {
  type MethodDefinition,
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedHandleCall,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { credentials } from '@grpc/grpc-js';
import { SnapshotsClient, SnapshotsService } from '#src/wire/generated/containerd/snapshots.ts';

export interface SnapshotterCall {
  /** `Prepare`, `Mounts` ... */
  readonly method: string;
  /** containerd's backend key; empty for calls without one. */
  readonly key: string;
}

type AnyMethod = MethodDefinition<object, object>;

export class SnapshotterRecorder {
  readonly #calls: SnapshotterCall[] = [];
  readonly #server = new Server();
  #client: SnapshotsClient | undefined;

  /** Passes calls from one socket on to another. */
  async start(snapshotterSocket: string, socketPath: string): Promise<void> {
    const options = { 'grpc.default_authority': 'localhost' };
    this.#client = new SnapshotsClient(`unix://${snapshotterSocket}`, credentials.createInsecure(), options);
    const handlers = Object.entries(SnapshotsService as unknown as Record<string, AnyMethod>).map(
      ([name, method]) => [name, method.responseStream ? this.#stream(method) : this.#unary(method)],
    );
    this.#server.addService(
      SnapshotsService,
      Object.fromEntries(handlers) as Record<string, UntypedHandleCall>,
    );
    await new Promise<void>((resolve, reject) => {
      this.#server.bindAsync(`unix://${socketPath}`, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  }

  /** The calls since the last time, in their order. */
  take(): SnapshotterCall[] {
    return this.#calls.splice(0);
  }

  stop(): void {
    this.#server.forceShutdown();
    this.#client?.close();
  }

  #unary(method: AnyMethod) {
    return (call: ServerUnaryCall<object, object>, callback: sendUnaryData<object>): void => {
      this.#record(method, call.request);
      this.#client?.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        call.request,
        new Metadata(),
        (error, response) => {
          callback(error, response);
        },
      );
    };
  }

  #stream(method: AnyMethod) {
    return (call: ServerWritableStream<object, object>): void => {
      this.#record(method, call.request);
      const answers = this.#client?.makeServerStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        call.request,
        new Metadata(),
      );
      answers?.on('error', (error) => call.emit('error', error));
      answers?.on('data', (answer: object) => call.write(answer));
      answers?.on('end', () => {
        call.end();
      });
    };
  }

  #record({ path }: AnyMethod, request: object): void {
    const key = 'key' in request && typeof request.key === 'string' ? request.key : '';
    this.#calls.push({ method: path.split('/').at(-1) ?? path, key });
  }
}

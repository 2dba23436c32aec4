/** A client for the agent on this machine. */
import { Metadata, credentials } from '@grpc/grpc-js';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_NODE_STATUS_BYTES } from '#src/base/limits.ts';
import {
  AgentClient,
  type AgentActivateResponse,
  type AgentPreflightResponse,
  type AgentReportUsageRequest,
  type AgentReportUsageResponse,
  type DropPlaintextResponse,
  type ImportOfflineResponse,
  type RequestOfflineResponse,
  type StatusResponse,
} from './generated/latchkey/agent.ts';
import { fromGrpcError, isFarEndsOwn } from './status.ts';
import { callUnary } from './unary.ts';

/** Activation asks the key server on the way. */
const CALL_TIMEOUT_MS = 30_000;

export class AgentConnection {
  readonly #client: AgentClient;
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
    this.#client = new AgentClient(`unix://${socketPath}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_NODE_STATUS_BYTES,
    });
  }

  activate(licenseKey: string): Promise<AgentActivateResponse> {
    return this.#call(this.#client.activate.bind(this.#client), { licenseKey });
  }

  status(): Promise<StatusResponse> {
    return this.#call(this.#client.status.bind(this.#client), {});
  }

  requestOffline(imageDigests: readonly string[]): Promise<RequestOfflineResponse> {
    return this.#call(this.#client.requestOffline.bind(this.#client), { imageDigests: [...imageDigests] });
  }

  importOffline(file: Buffer): Promise<ImportOfflineResponse> {
    return this.#call(this.#client.importOffline.bind(this.#client), { file });
  }

  dropPlaintext(): Promise<DropPlaintextResponse> {
    return this.#call(this.#client.dropPlaintext.bind(this.#client), {});
  }

  preflight(imageDigest: string): Promise<AgentPreflightResponse> {
    return this.#call(this.#client.preflight.bind(this.#client), { imageDigest });
  }

  reportUsage(usage: AgentReportUsageRequest): Promise<AgentReportUsageResponse> {
    return this.#call(this.#client.reportUsage.bind(this.#client), usage);
  }

  close(): void {
    this.#client.close();
  }

  async #call<Request, Response>(
    method: Parameters<typeof callUnary<Request, Response>>[0],
    request: Request,
  ): Promise<Response> {
    try {
      return await callUnary(method, request, new Metadata(), { deadline: Date.now() + CALL_TIMEOUT_MS });
    } catch (error) {
      const known = fromGrpcError(error, `the node agent at ${this.#socketPath}`);
      // An agent that answers may itself not reach the key server or containerd.
      if (known.code !== 'NET_UNREACHABLE' || isFarEndsOwn(error)) throw known;
      const start = "start it with 'latchkey node run', as root";
      // To anybody else an agent that runs looks like none at all.
      const hint = process.getuid?.() === 0 ? start : `use sudo, since only root reaches it, or ${start}`;
      throw new LatchkeyError('NET_UNREACHABLE', `the node agent does not answer at ${this.#socketPath}`, {
        hint,
        cause: error,
      });
    }
  }
}

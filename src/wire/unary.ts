/** Async functions as gRPC handlers and gRPC calls as promises, with our errors on both sides. */
import type {
  CallOptions,
  Metadata,
  ServerUnaryCall,
  ServiceError,
  ClientUnaryCall,
  handleUnaryCall,
} from '@grpc/grpc-js';
import { toGrpcStatus } from './status.ts';

/**
 * A unary handler from an async function.
 * @param onError told of every failure before it is answered, for logs and metrics
 */
export function unaryHandler<Request, Response>(
  handle: (request: Request, call: ServerUnaryCall<Request, Response>) => Promise<Response>,
  onError: (error: unknown, call: ServerUnaryCall<Request, Response>) => void = () => undefined,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    // A handler may also throw before it gives its promise.
    const answer = async () => handle(call.request, call);
    answer().then(
      (response) => {
        callback(null, response);
      },
      (error: unknown) => {
        onError(error, call);
        callback(toGrpcStatus(error));
      },
    );
  };
}

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** A unary client method (bound to its client) as a promise; rejects with the ServiceError as it is. */
export function callUnary<Request, Response>(
  method: UnaryMethod<Request, Response>,
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    method(request, metadata, options, (error, response) => {
      if (error === null) resolve(response);
      else reject(error);
    });
  });
}

/** A client for the key provider service of the agent on this machine. */
import { type CallOptions, Client, Metadata, type ServiceError, credentials } from '@grpc/grpc-js';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import { keyProviderService } from '#src/keywrap/provider-service.ts';
import { fromGrpcError } from './status.ts';
import { callUnary } from './unary.ts';

/** The agent may ask the key server on the way. */
const CALL_TIMEOUT_MS = 30_000;

/**
 * Has the agent open an element.
 * @param document an unwrap request
 * @returns the answer's document
 * @throws LatchkeyError DENIED_*, NET_*, INPUT_MALFORMED, CRYPTO_AUTHENTICATION_FAILED, INTERRUPTED
 */
export async function askKeyProvider(
  socketPath: string,
  document: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const client = new Client(`unix://${socketPath}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': MAX_PROVIDER_MESSAGE_BYTES,
  });
  const { path, requestSerialize, responseDeserialize } = keyProviderService.unWrapKey;
  const call = (
    request: Uint8Array,
    metadata: Metadata,
    options: Partial<CallOptions>,
    callback: (error: ServiceError | null, response: Uint8Array) => void,
  ) =>
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      options,
      (error, answer) => {
        callback(error, answer ?? new Uint8Array());
      },
    );
  const abort = (): void => {
    client.close();
  };
  signal.addEventListener('abort', abort);
  try {
    return await callUnary(call, document, new Metadata(), { deadline: Date.now() + CALL_TIMEOUT_MS });
  } catch (error) {
    if (signal.aborted) throw toLatchkeyError(signal.reason);
    throw explain(error, socketPath);
  } finally {
    signal.removeEventListener('abort', abort);
    client.close();
  }
}

function explain(error: unknown, socketPath: string): LatchkeyError {
  const known = fromGrpcError(error, `the node agent at ${socketPath}`);
  if (known.code !== 'NET_UNREACHABLE' || known.cause !== error) return known;
  return new LatchkeyError('NET_UNREACHABLE', `no agent offers a key provider at ${socketPath}`, {
    hint: `set [key_provider] socket = "${socketPath}" in the agent's configuration, and run this as root`,
    cause: error,
  });
}

/** A key provider that is a gRPC service (provider-service.ts). */
import { readFile } from 'node:fs/promises';
import {
  type ChannelCredentials,
  Client,
  Metadata,
  type ServiceError,
  credentials,
  status,
} from '@grpc/grpc-js';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import type { GrpcTls, GrpcTransport } from './provider-config.ts';
import { providerFailed } from './provider-failure.ts';
import type { ProviderCall } from './provider.ts';
import { keyProviderService } from './provider-service.ts';

/**
 * Asks the service once.
 * @returns the answer's document
 * @throws LatchkeyError KEY_PROVIDER_FAILED, NET_UNREACHABLE, NET_TIMEOUT, CONFIG_INVALID for a bad key file, INTERRUPTED
 */
export async function callProviderGrpc(transport: GrpcTransport, call: ProviderCall): Promise<Uint8Array> {
  call.signal?.throwIfAborted();
  const client = new Client(transport.address, await channelCredentials(transport.tls, call.name), {
    'grpc.max_receive_message_length': MAX_PROVIDER_MESSAGE_BYTES,
    // A proxy must not see layer keys: it would, without TLS.
    'grpc.enable_http_proxy': transport.tls === undefined ? 0 : 1,
    ...(transport.tls?.serverName === undefined
      ? {}
      : { 'grpc.ssl_target_name_override': transport.tls.serverName }),
  });
  try {
    return await ask(client, transport, call);
  } finally {
    client.close();
  }
}

function ask(client: Client, transport: GrpcTransport, call: ProviderCall): Promise<Uint8Array> {
  const { path, requestSerialize, responseDeserialize } =
    keyProviderService[call.operation === 'wrap' ? 'wrapKey' : 'unWrapKey'];
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      running.cancel();
      reject(toLatchkeyError(call.signal?.reason));
    };
    const running = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      call.request,
      new Metadata(),
      { deadline: Date.now() + call.timeoutMs },
      (error: ServiceError | null, answer?: Uint8Array) => {
        call.signal?.removeEventListener('abort', abort);
        if (error === null) resolve(answer ?? new Uint8Array());
        else reject(explain(error, transport, call));
      },
    );
    call.signal?.addEventListener('abort', abort);
  });
}

/** What the service has said is no cause: it may quote the layer key. */
function explain(error: ServiceError, transport: GrpcTransport, call: ProviderCall): LatchkeyError {
  const where = `key provider ${call.name} at ${transport.address}`;
  switch (error.code) {
    case status.DEADLINE_EXCEEDED:
      return new LatchkeyError('NET_TIMEOUT', `${where} did not answer within ${call.timeoutMs / 1000} s`, {
        hint: 'see whether it runs and what it asks in turn can be reached',
        cause: error,
      });
    case status.UNAVAILABLE: {
      const { message } = providerFailed(call.name, `at ${transport.address} is unreachable`, {
        said: error.details,
        secret: call.secret,
      });
      return new LatchkeyError('NET_UNREACHABLE', message, {
        hint: 'start it, or mend its address or grpc-tls in the key provider configuration',
      });
    }
    default:
      return providerFailed(call.name, `at ${transport.address} refused`, {
        said: error.details,
        secret: call.secret,
      });
  }
}

async function channelCredentials(tls: GrpcTls | undefined, name: string): Promise<ChannelCredentials> {
  if (tls === undefined) return credentials.createInsecure();
  const read = (path: string) =>
    readFile(path).catch((error: unknown) => {
      throw new LatchkeyError('CONFIG_INVALID', `grpc-tls of key provider ${name}: ${path} cannot be read`, {
        hint: 'mend the path in the key provider configuration',
        cause: error,
      });
    });
  const authority = tls.authorityFile === undefined ? null : await read(tls.authorityFile);
  const key = tls.client === undefined ? null : await read(tls.client.keyFile);
  const certificate = tls.client === undefined ? null : await read(tls.client.certificateFile);
  try {
    return credentials.createSsl(authority, key, certificate);
  } catch (error) {
    throw new LatchkeyError(
      'CONFIG_INVALID',
      `grpc-tls of key provider ${name}: the files hold no usable key`,
      {
        hint: 'root-ca-file, cert-file and key-file are PEM, and the key belongs to the certificate',
        cause: error,
      },
    );
  }
}

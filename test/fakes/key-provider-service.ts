/** A key provider as a gRPC service, with or without TLS; and the certificates for that, made by openssl. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type sendUnaryData, Server, ServerCredentials, type ServerUnaryCall, status } from '@grpc/grpc-js';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import {
  formatUnwrapAnswer,
  formatWrapAnswer,
  parseProviderRequest,
} from '#src/keywrap/provider-protocol.ts';
import { keyProviderService } from '#src/keywrap/provider-service.ts';
import { unwrapAsProvider, wrapAsProvider } from './key-provider-wrapping.ts';

export const SERVER_NAME = 'kms.acme.example';
const ANSWER_BYTES = 100 * 1024 * 1024;

export interface ProviderService {
  /** `127.0.0.1:PORT`, or the address it was told. */
  readonly address: string;
  /** Every request's document. */
  readonly requests: readonly string[];
  close(): void;
}

export interface ProviderServiceOptions {
  readonly behaviour?:
    | 'answer'
    | 'hang'
    | 'refuse'
    | 'repeat-request'
    | 'repeat-request-as-away'
    | 'too-long'
    | 'flood'
    | 'garbage';
  readonly address?: string;
  /** Directory of `createTlsFiles`; clients must show a certificate when `isMutual`. */
  readonly tls?: { readonly directory: string; readonly isMutual: boolean };
}

/** Starts a service under the provider name `acme`. */
export async function startProviderService(options: ProviderServiceOptions = {}): Promise<ProviderService> {
  const server = new Server({ 'grpc.max_send_message_length': -1 });
  const requests: string[] = [];
  const handle = (
    call: ServerUnaryCall<Uint8Array, Uint8Array>,
    callback: sendUnaryData<Uint8Array>,
  ): void => {
    requests.push(Buffer.from(call.request).toString());
    switch (options.behaviour ?? 'answer') {
      case 'answer':
        callback(null, answer(call.request));
        break;
      case 'refuse':
        callback({ code: status.PERMISSION_DENIED, details: 'no\u001b[2J such\nkey' });
        break;
      case 'repeat-request':
        callback({ code: status.PERMISSION_DENIED, details: `cannot read ${requests.join('')}` });
        break;
      case 'repeat-request-as-away':
        callback({ code: status.UNAVAILABLE, details: `cannot pass on ${requests.join('')}` });
        break;
      case 'too-long':
        callback(null, Buffer.alloc(MAX_PROVIDER_MESSAGE_BYTES + 1, ' '));
        break;
      case 'flood':
        callback(null, Buffer.alloc(ANSWER_BYTES, ' '));
        break;
      case 'garbage':
        callback(null, Buffer.from('all is well'));
        break;
      case 'hang':
        break;
    }
  };
  server.addService(keyProviderService, { wrapKey: handle, unWrapKey: handle });
  const wanted = options.address ?? '127.0.0.1:0';
  const port = await new Promise<number>((resolve, reject) => {
    serverCredentials(options)
      .then((credentials) => {
        server.bindAsync(wanted, credentials, (error, bound) => {
          if (error === null) resolve(bound);
          else reject(error);
        });
      })
      .catch(reject);
  });
  return {
    address: options.address ?? `127.0.0.1:${port}`,
    requests,
    close: () => {
      server.forceShutdown();
    },
  };
}

function answer(document: Uint8Array): Uint8Array {
  const request = parseProviderRequest(document, 'acme');
  return request.operation === 'wrap'
    ? formatWrapAnswer(wrapAsProvider(request.privateOptions))
    : formatUnwrapAnswer(unwrapAsProvider(request.element));
}

async function serverCredentials({ tls }: ProviderServiceOptions): Promise<ServerCredentials> {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const read = (name: string) => readFile(join(tls.directory, name));
  const pair = { private_key: await read('server.key'), cert_chain: await read('server.pem') };
  return ServerCredentials.createSsl(await read('ca.pem'), [pair], tls.isMutual);
}

/** Makes an authority (`ca`), a server certificate for SERVER_NAME, a client certificate, and a foreign authority. */
export async function createTlsFiles(directory: string): Promise<void> {
  const openssl = (...args: string[]) => promisify(execFile)('openssl', args, { cwd: directory });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  for (const name of ['ca', 'foreign']) {
    const files = ['-keyout', `${name}.key`, '-out', `${name}.pem`];
    await openssl('req', '-x509', ...newKey, ...files, '-subj', `/CN=${name}`);
  }
  for (const [name, alternative] of [
    ['server', SERVER_NAME],
    ['client', 'client.acme.example'],
  ] as const) {
    const files = ['-keyout', `${name}.key`, '-out', `${name}.pem`, '-CA', 'ca.pem', '-CAkey', 'ca.key'];
    const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${alternative}`];
    await openssl('req', '-x509', ...newKey, ...files, ...subject);
  }
}

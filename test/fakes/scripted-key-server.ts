/** A key server with a good certificate that answers what a test says, as bytes that may be no message at all. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509';
import { NodesService, OpenSessionResponse } from '#src/wire/generated/latchkey/node.ts';

const ECDSA_P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR_MS = 3_600_000;

type Method = 'acquireLease' | 'renewLeases' | 'watchRevocations';

export class ScriptedKeyServer {
  readonly address: string;
  /** What a node has to trust to come here. */
  readonly authorityPem: string;
  readonly #server: Server;
  /** The next answers, encoded; while there is none a call hangs. */
  readonly answers: Partial<Record<Exclude<Method, 'watchRevocations'>, Buffer>> = {};
  /** What a session is told; one that goes back counts as a key server that was restored. */
  revision = 0;
  readonly #streams = new Set<ServerWritableStream<Buffer, Buffer>>();
  #onWatch: (stream: ServerWritableStream<Buffer, Buffer>) => void = () => undefined;

  private constructor(server: Server, port: number, authorityPem: string) {
    this.#server = server;
    this.address = `127.0.0.1:${port}`;
    this.authorityPem = authorityPem;
  }

  static async start(): Promise<ScriptedKeyServer> {
    const { certificatePem, privateKeyPem } = await selfSigned();
    const server = new Server();
    const pairs = [{ cert_chain: Buffer.from(certificatePem), private_key: Buffer.from(privateKeyPem) }];
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createSsl(null, pairs), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    const scripted = new ScriptedKeyServer(server, port, certificatePem);
    server.addService(rawService(), {
      openSession: (_call: unknown, answer: sendUnaryData<Buffer>) => {
        const session = {
          sequence: 1,
          token: 'scripted',
          serverTimeMs: Date.now(),
          revision: scripted.revision,
        };
        answer(null, Buffer.from(OpenSessionResponse.encode(session).finish()));
      },
      acquireLease: scripted.#unary('acquireLease'),
      renewLeases: scripted.#unary('renewLeases'),
      watchRevocations: (stream: ServerWritableStream<Buffer, Buffer>) => {
        scripted.#streams.add(stream);
        stream.once('cancelled', () => scripted.#streams.delete(stream));
        scripted.#onWatch(stream);
      },
    });
    return scripted;
  }

  /** Given every stream, those that are open already too. */
  watch(onWatch: (stream: ServerWritableStream<Buffer, Buffer>) => void): void {
    this.#onWatch = onWatch;
    for (const stream of this.#streams) onWatch(stream);
  }

  close(): void {
    this.#server.forceShutdown();
  }

  #unary(method: Exclude<Method, 'watchRevocations'>) {
    return (_call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>): void => {
      const bytes = this.answers[method];
      if (bytes !== undefined) answer(null, bytes);
    };
  }
}

/** The service of nodes without its messages. */
function rawService() {
  const asIs = (bytes: Buffer): Buffer => bytes;
  const raw = {
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
  const { acquireLease, openSession, renewLeases, watchRevocations } = NodesService;
  return {
    acquireLease: { ...acquireLease, ...raw },
    openSession: { ...openSession, ...raw },
    renewLeases: { ...renewLeases, ...raw },
    watchRevocations: { ...watchRevocations, ...raw },
  };
}

async function selfSigned(): Promise<{ certificatePem: string; privateKeyPem: string }> {
  const keys = await webcrypto.subtle.generateKey(ECDSA_P256, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: [{ CN: ['scripted key server'] }],
    keys,
    signingAlgorithm: ECDSA_P256,
    notBefore: new Date(Date.now() - HOUR_MS),
    notAfter: new Date(Date.now() + HOUR_MS),
    extensions: [new SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }])],
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const privateKeyPem = `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`;
  return { certificatePem: certificate.toString('pem'), privateKeyPem };
}

/** The node's side of node.proto for tests: a key, an activation, a channel over mutual TLS. */
import 'reflect-metadata';
import { type KeyObject, X509Certificate, createPrivateKey, randomBytes, webcrypto } from 'node:crypto';
import { Metadata, credentials } from '@grpc/grpc-js';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { tokensOf } from '#src/crypto/open-token.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import { isJoinToken } from '#src/licensing/join-token.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import {
  type AcquireLeaseResponse,
  type ActivateResponse,
  type ChainPosition,
  EnrollmentClient,
  NodesClient,
  type PreflightResponse,
  type RenewalResult,
  type RenewLeasesResponse,
  type ReportUsageRequest,
  type ReportUsageResponse,
} from '#src/wire/generated/latchkey/node.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';
import { leaseVerificationKey, verifyLease } from '../../shim/agent/lease.ts';

const P256 = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const CALL_TIMEOUT_MS = 60_000;

export interface NodeKey {
  readonly requestDer: Buffer;
  readonly privateKey: KeyObject;
}

/** A node key and its certificate request. */
export async function createNodeKey(name = 'node-1'): Promise<NodeKey> {
  const keys = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify']);
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [name] }],
    keys,
    signingAlgorithm: { ...P256, hash: 'SHA-256' },
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    requestDer: Buffer.from(request.rawData),
    privateKey: createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' }),
  };
}

export interface ActivationOptions {
  readonly key?: NodeKey;
  readonly name?: string;
  readonly installation?: string;
  readonly nodeTimeMs?: number;
}

/** Activates and gives the connected node; rejects with the LatchkeyError that came over the wire. */
export async function activateNode(
  server: TestKeyServer,
  licenseKey: string,
  options: ActivationOptions = {},
): Promise<LicensedNode> {
  const key = options.key ?? (await createNodeKey(options.name));
  const client = new EnrollmentClient(
    server.enrollAddress,
    credentials.createSsl(Buffer.from(server.authorityPem)),
  );
  try {
    const activation = await callUnary(
      client.activate.bind(client),
      {
        ...(isJoinToken(licenseKey)
          ? { licenseKey: '', joinToken: licenseKey }
          : { licenseKey, joinToken: '' }),
        certificateRequestDer: key.requestDer,
        installation: options.installation ?? '',
        nodeName: options.name ?? 'node-1',
        nodeTimeMs: options.nodeTimeMs ?? Date.now(),
      },
      new Metadata(),
      { deadline: Date.now() + CALL_TIMEOUT_MS },
    );
    return new LicensedNode(server, key, activation);
  } catch (error) {
    throw fromGrpcError(error, 'key server');
  } finally {
    client.close();
  }
}

export interface AcquireOptions {
  readonly imageDigest: string;
  readonly imageKeyId: string;
  readonly nonce?: Buffer;
  readonly nodeTimeMs?: number;
}

/** How a renewal ended for one lease. */
export interface KeptRenewal {
  readonly leaseId: string;
  readonly outcome: Exclude<RenewalResult['outcome'], { $case: 'listedLease' }>;
}

export class LicensedNode {
  readonly activation: ActivateResponse;
  readonly key: NodeKey;
  readonly client: NodesClient;

  constructor(server: TestKeyServer, key: NodeKey, activation: ActivateResponse) {
    this.key = key;
    this.activation = activation;
    this.client = connectNode(server, key, activation.certificateDer);
  }

  async preflight(imageDigest: string, nodeTimeMs = Date.now(), imageKeyId = ''): Promise<PreflightResponse> {
    return this.#call(
      callUnary(
        this.client.preflight.bind(this.client),
        { imageDigest, imageKeyId, nodeTimeMs },
        new Metadata(),
        { deadline: Date.now() + CALL_TIMEOUT_MS },
      ),
    );
  }

  async acquire(options: AcquireOptions): Promise<AcquireLeaseResponse> {
    return this.#call(
      callUnary(
        this.client.acquireLease.bind(this.client),
        { nonce: randomBytes(16), nodeTimeMs: Date.now(), position: undefined, ...options },
        new Metadata(),
        { deadline: Date.now() + CALL_TIMEOUT_MS },
      ),
    );
  }

  /** Gives each lease as it is kept, also of those that share a signature; a node of before there were such ones gets none. */
  async renew(
    leaseIds: string[],
    position?: ChainPosition,
    acceptsLeaseList = true,
  ): Promise<RenewLeasesResponse & { results: KeptRenewal[] }> {
    const answer = await this.#call(
      callUnary(
        this.client.renewLeases.bind(this.client),
        { leaseIds, nodeTimeMs: Date.now(), position, acceptsLeaseList },
        new Metadata(),
        { deadline: Date.now() + CALL_TIMEOUT_MS },
      ),
    );
    const listed = tokensOf(answer.leaseList);
    const results = answer.results.map(({ leaseId, outcome }): KeptRenewal => {
      if (outcome?.$case !== 'listedLease') return { leaseId, outcome };
      return { leaseId, outcome: { $case: 'lease', value: listed[outcome.value] ?? '' } };
    });
    return { ...answer, results };
  }

  async reportUsage(usage: Partial<ReportUsageRequest>): Promise<ReportUsageResponse> {
    const request = { licenseId: '', meter: '', reportId: '', amount: 0, position: undefined, ...usage };
    return this.#call(
      callUnary(this.client.reportUsage.bind(this.client), request, new Metadata(), {
        deadline: Date.now() + CALL_TIMEOUT_MS,
      }),
    );
  }

  /** Opens the image key of an answer. */
  openImageKey(answer: AcquireLeaseResponse): Promise<Uint8Array> {
    return openEnvelope(answer.imageKeyJwe, this.key.privateKey, 'latchkey-image-key-lease');
  }

  /** What a lease says, once the node has checked it. */
  claimsOf(lease: string): Promise<LeaseClaims> {
    const { nodeId, leaseVerificationJwk } = this.activation;
    return verifyLease(lease, leaseVerificationKey(leaseVerificationJwk), { nodeId });
  }

  close(): void {
    this.client.close();
  }

  async #call<Response>(call: Promise<Response>): Promise<Response> {
    try {
      return await call;
    } catch (error) {
      throw fromGrpcError(error, 'key server');
    }
  }
}

/** A channel with a client certificate. */
export function connectNode(server: TestKeyServer, key: NodeKey, certificateDer: Uint8Array): NodesClient {
  const certificate = new X509Certificate(certificateDer).toString();
  return new NodesClient(
    server.nodeAddress,
    credentials.createSsl(
      Buffer.from(server.authorityPem),
      Buffer.from(key.privateKey.export({ type: 'pkcs8', format: 'pem' })),
      Buffer.from(certificate),
    ),
  );
}

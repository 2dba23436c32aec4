/** The agent's side of node.v1: one mutual TLS channel for everything a node asks, kept open. */
import { setTimeout as delay } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import { type ClientReadableStream, Metadata, credentials } from '@grpc/grpc-js';
import type { LatchkeyError } from '#src/base/errors.ts';
import { KEY_SERVER_CALL_TIMEOUT_MS } from '#src/base/limits.ts';
import {
  type AcknowledgeRevocationsRequest,
  type AcquireLeaseRequest,
  type AcquireLeaseResponse,
  type ActivateRequest,
  type ActivateResponse,
  type AuthenticateRequest,
  type AuthenticateResponse,
  EnrollmentClient,
  type ListChangesRequest,
  type ListChangesResponse,
  NodesClient,
  type OpenSessionRequest,
  type OpenSessionResponse,
  type PreflightRequest,
  type PreflightResponse,
  type RenewLeasesRequest,
  type RenewLeasesResponse,
  type ReportPlaintextRequest,
  type ReportUsageRequest,
  type ReportUsageResponse,
  type RotateCertificateRequest,
  type RotateCertificateResponse,
  type WatchRevocationsRequest,
  type WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import { ResumedTls } from './resumed-tls.ts';
import { ResumingCredentials } from './resuming-credentials.ts';

/** Retry dialling soon: a start may be waiting. */
export const REDIAL = { firstMs: 200, maxMs: 5000 } as const;

const CHANNEL_OPTIONS = {
  'grpc.initial_reconnect_backoff_ms': REDIAL.firstMs,
  'grpc.max_reconnect_backoff_ms': REDIAL.maxMs,
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
} as const;

export interface KeyServerCredentials {
  readonly authorityPem: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** What leases and the watch ask of the key server. */
export interface KeyServer {
  readonly address: string;
  acquireLease(request: Omit<AcquireLeaseRequest, 'position'>): Promise<AcquireLeaseResponse>;
  renewLeases(request: Omit<RenewLeasesRequest, 'position'>): Promise<RenewLeasesResponse>;
  watchRevocations(afterRevision: number): Promise<ClientReadableStream<WatchRevocationsResponse>>;
  /** What a stream would tell, asked for once. */
  listChanges(afterRevision: number): Promise<ListChangesResponse>;
  /** Resolves when the key server has taken note. */
  reportPlaintext(request: ReportPlaintextRequest): Promise<unknown>;
  /** What a start would be told now. */
  preflight(request: PreflightRequest): Promise<PreflightResponse>;
  /** Resolves when the key server has counted it. */
  reportUsage(request: Omit<ReportUsageRequest, 'position'>): Promise<ReportUsageResponse>;
  /** Resolves when the key server knows that every change up to the revision is acted upon. */
  acknowledgeRevocations(revision: number): Promise<unknown>;
  /** A failed stream as our error. */
  explain(error: unknown): LatchkeyError;
  close(): void;
}

/** One connection with one certificate: the calls as they are. */
export interface KeyServerChannel {
  acquireLease(request: AcquireLeaseRequest): Promise<AcquireLeaseResponse>;
  renewLeases(request: RenewLeasesRequest): Promise<RenewLeasesResponse>;
  watchRevocations(request: WatchRevocationsRequest): ClientReadableStream<WatchRevocationsResponse>;
  listChanges(request: ListChangesRequest): Promise<ListChangesResponse>;
  openSession(request: OpenSessionRequest): Promise<OpenSessionResponse>;
  rotateCertificate(request: RotateCertificateRequest): Promise<RotateCertificateResponse>;
  reportPlaintext(request: ReportPlaintextRequest): Promise<unknown>;
  preflight(request: PreflightRequest): Promise<PreflightResponse>;
  reportUsage(request: ReportUsageRequest): Promise<ReportUsageResponse>;
  acknowledgeRevocations(request: AcknowledgeRevocationsRequest): Promise<unknown>;
  explain(error: unknown): LatchkeyError;
  close(): void;
}

/** Opens the channel; nothing is sent before the first call. */
export function connectKeyServer(address: string, identity: KeyServerCredentials): KeyServerChannel {
  const context = createSecureContext({
    ca: identity.authorityPem,
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
  });
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
  const client = new NodesClient(
    address,
    new ResumingCredentials(host, new ResumedTls(context)),
    CHANNEL_OPTIONS,
  );
  const explain = (error: unknown) => fromGrpcError(error, `the key server at ${address}`);
  const call = async <Request, Response>(
    method: Parameters<typeof callUnary<Request, Response>>[0],
    request: Request,
  ): Promise<Response> => {
    const deadline = Date.now() + KEY_SERVER_CALL_TIMEOUT_MS;
    for (;;) {
      try {
        return await callUnary(method, request, new Metadata(), { deadline });
      } catch (error) {
        const known = explain(error);
        // Nothing was used up: the key server has looked at who asks, and no further.
        const { retryAfterMs = Infinity } = known;
        if (known.code !== 'RATE_LIMITED' || Date.now() + retryAfterMs >= deadline) throw known;
        await delay(retryAfterMs);
      }
    }
  };
  return {
    acquireLease: (request) => call(client.acquireLease.bind(client), request),
    reportPlaintext: (request) => call(client.reportPlaintext.bind(client), request),
    preflight: (request) => call(client.preflight.bind(client), request),
    reportUsage: (request) => call(client.reportUsage.bind(client), request),
    acknowledgeRevocations: (request) => call(client.acknowledgeRevocations.bind(client), request),
    renewLeases: (request) => call(client.renewLeases.bind(client), request),
    rotateCertificate: (request) => call(client.rotateCertificate.bind(client), request),
    // As soon as there is a connection: a revocation may wait for it, and the pauses of the channel are enough.
    watchRevocations: (request) => client.watchRevocations(request, new Metadata({ waitForReady: true })),
    listChanges: (request) => call(client.listChanges.bind(client), request),
    openSession: (request) => call(client.openSession.bind(client), request),
    explain,
    close: () => {
      client.close();
    },
  };
}

/**
 * Trades a license key or a join token for a certificate.
 * @throws LatchkeyError DENIED_*, INPUT_LICENSE_KEY_MALFORMED, NET_*
 */
export function activateAt(
  address: string,
  authorityPem: string,
  request: ActivateRequest,
): Promise<ActivateResponse> {
  return enroll(address, authorityPem, (client, options) =>
    callUnary(client.activate.bind(client), request, new Metadata(), options),
  );
}

/**
 * Gets something new to sign.
 * @throws LatchkeyError RATE_LIMITED, NET_*
 */
export async function challengeAt(address: string, authorityPem: string): Promise<Buffer> {
  const { nonce } = await enroll(address, authorityPem, (client, options) =>
    callUnary(client.challenge.bind(client), {}, new Metadata(), options),
  );
  return nonce;
}

/**
 * Trades proof of the node key for a certificate of another key.
 * @throws LatchkeyError DENIED_NODE_*, STATE_CONFLICT, RATE_LIMITED, NET_*
 */
export function authenticateAt(
  address: string,
  authorityPem: string,
  request: AuthenticateRequest,
): Promise<AuthenticateResponse> {
  return enroll(address, authorityPem, (client, options) =>
    callUnary(client.authenticate.bind(client), request, new Metadata(), options),
  );
}

/** A call that a node makes without a certificate. */
async function enroll<Response>(
  address: string,
  authorityPem: string,
  call: (client: EnrollmentClient, options: { readonly deadline: number }) => Promise<Response>,
): Promise<Response> {
  const client = new EnrollmentClient(address, credentials.createSsl(Buffer.from(authorityPem)));
  try {
    return await call(client, { deadline: Date.now() + 2 * KEY_SERVER_CALL_TIMEOUT_MS });
  } catch (error) {
    throw fromGrpcError(error, `the key server at ${address}`);
  } finally {
    client.close();
  }
}

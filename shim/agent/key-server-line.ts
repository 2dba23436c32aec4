/**
 * The line to the key server as the rest of the agent sees it: one for as long as the node is activated, whatever
 * certificate it is on. A new certificate gets a connection of its own and takes over only after that has worked, so
 * no start and no revocation falls into a gap.
 */
import type { ClientReadableStream } from '@grpc/grpc-js';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { KEY_SERVER_CALL_TIMEOUT_MS } from '#src/base/limits.ts';
import type {
  AcquireLeaseRequest,
  AcquireLeaseResponse,
  RenewLeasesRequest,
  RenewLeasesResponse,
  RotateCertificateRequest,
  RotateCertificateResponse,
  WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import {
  type KeyServer,
  type KeyServerChannel,
  type KeyServerCredentials,
  connectKeyServer,
} from './key-server.ts';

export interface LineCredentials extends KeyServerCredentials {
  readonly certificateExpiresAtMs: number;
}

type Stream = ClientReadableStream<WatchRevocationsResponse>;

export class KeyServerLine implements KeyServer {
  readonly address: string;
  readonly #clock: Clock;
  readonly #streams = new Set<Stream>();
  #channel: KeyServerChannel;
  #expiresAtMs: number;

  constructor(address: string, credentials: LineCredentials, clock: Clock) {
    this.address = address;
    this.#clock = clock;
    this.#channel = connectKeyServer(address, credentials);
    this.#expiresAtMs = credentials.certificateExpiresAtMs;
  }

  async acquireLease(request: AcquireLeaseRequest): Promise<AcquireLeaseResponse> {
    return this.#usable().acquireLease(request);
  }

  async renewLeases(request: RenewLeasesRequest): Promise<RenewLeasesResponse> {
    return this.#usable().renewLeases(request);
  }

  async rotateCertificate(request: RotateCertificateRequest): Promise<RotateCertificateResponse> {
    return this.#usable().rotateCertificate(request);
  }

  watchRevocations(afterRevision: number): Stream {
    const stream = this.#channel.watchRevocations(afterRevision);
    this.#streams.add(stream);
    stream.once('close', () => this.#streams.delete(stream));
    return stream;
  }

  explain(error: unknown): LatchkeyError {
    return this.#channel.explain(error);
  }

  /**
   * Goes over to another certificate once a call with it has been answered; before that nothing changes.
   * @throws LatchkeyError NET_*, DENIED_*
   */
  async goOver(credentials: LineCredentials): Promise<void> {
    const next = connectKeyServer(this.address, credentials);
    try {
      // The smallest question there is.
      await next.renewLeases({ leaseIds: [], nodeTimeMs: this.#clock.nowMs() });
    } catch (error) {
      next.close();
      throw error;
    }
    const before = this.#channel;
    this.#channel = next;
    this.#expiresAtMs = credentials.certificateExpiresAtMs;
    // The watch comes back by itself, and is told what it has missed.
    for (const stream of this.#streams) stream.cancel();
    // Calls under way still get their answer.
    setTimeout(() => {
      before.close();
    }, 2 * KEY_SERVER_CALL_TIMEOUT_MS).unref();
  }

  close(): void {
    this.#channel.close();
  }

  /** TLS would only say that the key server hung up. */
  #usable(): KeyServerChannel {
    if (this.#clock.nowMs() < this.#expiresAtMs) return this.#channel;
    const since = new Date(this.#expiresAtMs).toISOString();
    throw new LatchkeyError('DENIED_NODE_NOT_ACTIVATED', `the certificate of this node expired on ${since}`, {
      hint: "run 'latchkey node activate' again, with the license key or a join token; it takes no second seat",
    });
  }
}

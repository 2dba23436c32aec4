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
  ChainPosition,
  ListChangesResponse,
  PreflightRequest,
  PreflightResponse,
  RenewLeasesRequest,
  RenewLeasesResponse,
  ReportPlaintextRequest,
  ReportUsageRequest,
  ReportUsageResponse,
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
import type { Machine } from './machine.ts';
import type { NodeMemory } from './node-memory.ts';
import { NodeSession } from './node-session.ts';

export interface LineCredentials extends KeyServerCredentials {
  readonly certificateExpiresAtMs: number;
  /** The node gets another one at any time; otherwise an expired certificate ends its membership. */
  readonly isReplaceable: boolean;
}

type Stream = ClientReadableStream<WatchRevocationsResponse>;

export interface LineParts {
  readonly clock: Clock;
  readonly machine: Machine;
  readonly memory: NodeMemory;
}

export class KeyServerLine implements KeyServer {
  readonly address: string;
  readonly #clock: Clock;
  readonly #memory: NodeMemory;
  readonly #session: NodeSession;
  readonly #streams = new Set<Stream>();
  #channel: KeyServerChannel;
  #expiresAtMs: number;
  readonly #isReplaceable: boolean;

  constructor(address: string, credentials: LineCredentials, { clock, machine, memory }: LineParts) {
    this.address = address;
    this.#clock = clock;
    this.#memory = memory;
    this.#channel = connectKeyServer(address, credentials);
    this.#expiresAtMs = credentials.certificateExpiresAtMs;
    this.#isReplaceable = credentials.isReplaceable;
    this.#session = new NodeSession({
      memory,
      machine,
      clock,
      open: (request) => this.#ask((channel) => channel.openSession(request)),
    });
  }

  acquireLease(request: Omit<AcquireLeaseRequest, 'position'>): Promise<AcquireLeaseResponse> {
    return this.#inSession((channel, position) => channel.acquireLease({ ...request, position }));
  }

  renewLeases(request: Omit<RenewLeasesRequest, 'position'>): Promise<RenewLeasesResponse> {
    return this.#inSession((channel, position) => channel.renewLeases({ ...request, position }));
  }

  async rotateCertificate(request: RotateCertificateRequest): Promise<RotateCertificateResponse> {
    return this.#usable().rotateCertificate(request);
  }

  async reportPlaintext(request: ReportPlaintextRequest): Promise<unknown> {
    return this.#usable().reportPlaintext(request);
  }

  preflight(request: PreflightRequest): Promise<PreflightResponse> {
    return this.#ask((channel) => channel.preflight(request));
  }

  listChanges(afterRevision: number): Promise<ListChangesResponse> {
    return this.#standing((position) =>
      this.#ask((channel) => channel.listChanges({ afterRevision, position })),
    );
  }

  reportUsage(usage: Omit<ReportUsageRequest, 'position'>): Promise<ReportUsageResponse> {
    return this.#standing((position) => this.#ask((channel) => channel.reportUsage({ ...usage, position })));
  }

  acknowledgeRevocations(revision: number): Promise<unknown> {
    return this.#standing((position) => this.#usable().acknowledgeRevocations({ revision, position }));
  }

  async watchRevocations(afterRevision: number): Promise<Stream> {
    const position = await this.#session.stand();
    const stream = this.#usable().watchRevocations({ afterRevision, position });
    this.#streams.add(stream);
    stream.once('close', () => this.#streams.delete(stream));
    stream.on('data', ({ serverTimeMs, revision }: WatchRevocationsResponse) => {
      this.#memory.heard(serverTimeMs, revision);
    });
    stream.on('error', (error) => {
      if (this.explain(error).code === 'STATE_SESSION_STALE') this.#session.outdated(position);
    });
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
      const position = await this.#session.stand();
      await next.listChanges({ afterRevision: this.#memory.revision, position });
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

  #inSession<Answer extends ServerWord>(
    call: (channel: KeyServerChannel, position: ChainPosition) => Promise<Answer>,
  ): Promise<Answer> {
    return onceMore(() =>
      this.#session.use((position) =>
        this.#noting(position, () => this.#ask((channel) => call(channel, position))),
      ),
    );
  }

  /** A request that changes nothing in the session. */
  #standing<Answer>(call: (position: ChainPosition) => Promise<Answer>): Promise<Answer> {
    return onceMore(async () => {
      const position = await this.#session.stand();
      return this.#noting(position, () => call(position));
    });
  }

  /** Tells the session when the key server does not take its position. */
  async #noting<Answer>(position: ChainPosition, call: () => Promise<Answer>): Promise<Answer> {
    try {
      return await call();
    } catch (error) {
      if (isStale(error)) this.#session.outdated(position);
      throw error;
    }
  }

  /** Whoever answers must know at least what was known before the question. */
  async #ask<Answer extends ServerWord>(
    call: (channel: KeyServerChannel) => Promise<Answer>,
  ): Promise<Answer> {
    const known = this.#memory.revision;
    const answer = await call(this.#usable());
    if (answer.revision < known) throw serverRollback(known, answer.revision);
    this.#memory.heard(answer.serverTimeMs, answer.revision);
    return answer;
  }

  /** TLS would only say that the key server hung up. */
  #usable(): KeyServerChannel {
    if (this.#clock.nowMs() < this.#expiresAtMs) return this.#channel;
    const since = new Date(this.#expiresAtMs).toISOString();
    if (this.#isReplaceable) {
      throw new LatchkeyError('NET_UNREACHABLE', `the TLS certificate of this node expired on ${since}`, {
        hint: 'the agent gets another one when the key server answers and the token is there',
      });
    }
    throw new LatchkeyError('DENIED_NODE_NOT_ACTIVATED', `the certificate of this node expired on ${since}`, {
      hint: "run 'latchkey node activate' again, with the license key or a join token; it takes no second seat",
    });
  }
}

/** What every answer says of the key server. */
interface ServerWord {
  readonly serverTimeMs: number;
  readonly revision: number;
}

function isStale(error: unknown): boolean {
  return error instanceof LatchkeyError && error.code === 'STATE_SESSION_STALE';
}

/** Asks again in a new session when the key server asks for one. */
async function onceMore<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  try {
    return await ask();
  } catch (error) {
    if (!isStale(error)) throw error;
    return ask();
  }
}

/** The key server has forgotten what it has said. */
export function serverRollback(known: number, said: number): LatchkeyError {
  return new LatchkeyError(
    'DENIED_SERVER_ROLLBACK',
    `the key server went back in time: it was at change ${known} and is at ${said}`,
    { hint: 'it was restored from an older copy; its operator has to start it once with --after-restore' },
  );
}

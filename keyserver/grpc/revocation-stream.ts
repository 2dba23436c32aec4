/**
 * Open revocation streams. A stream first tells what the node has missed and that it is connected, then
 * each change as it is committed, and in between that the server is still there.
 */
import type { ServerWritableStream } from '@grpc/grpc-js';
import { LatchkeyError } from '#src/base/errors.ts';
import { WATCH_HEARTBEAT_MS } from '../limits.ts';
import { toGrpcStatus } from '#src/wire/status.ts';
import type {
  LicenseChange as LicenseChangeMessage,
  WatchRevocationsRequest,
  WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import type { ChainPosition } from '#src/licensing/node-chain.ts';
import type { KeyServer } from '../domain/key-server.ts';
import type { ChangeReader } from '../domain/change-reader.ts';
import type { ChangesSince, LicenseChange } from '../domain/license-changes.ts';
import type { CallLog } from './call-log.ts';
import { toDenial } from './denial-message.ts';
import { type CertifiedIdentity, refuseExpired } from './peer-certificate.ts';

type Call = ServerWritableStream<WatchRevocationsRequest, WatchRevocationsResponse>;

/** All streams of a server, one for each node at most, so that no node can keep others waiting. */
export class OpenStreams {
  readonly #server: KeyServer;
  readonly #changes: ChangeReader;
  readonly #log: CallLog;
  readonly #streams = new Map<string, RevocationStream>();

  constructor(server: KeyServer, changes: ChangeReader, log: CallLog) {
    this.#server = server;
    this.#changes = changes;
    this.#log = log;
  }

  open(call: Call, identity: CertifiedIdentity): void {
    // It may have gone already; nothing would ever end its stream.
    if (call.cancelled) return;
    const { nodeId } = identity;
    this.#streams.get(nodeId)?.end(
      new LatchkeyError('STATE_CONFLICT', 'this node watches over a newer connection', {
        hint: 'one agent may run with the identity of a node',
      }),
    );
    const stream = new RevocationStream(this.#server, this.#changes, call, identity, (error) => {
      if (this.#streams.get(nodeId) === stream) this.#streams.delete(nodeId);
      if (error !== undefined) this.refuse(call, error);
    });
    this.#streams.set(nodeId, stream);
    stream.tell({ alsoWhenQuiet: true });
  }

  /** Of nodes that watch now. */
  get count(): number {
    return this.#streams.size;
  }

  refuse(call: Call, error: unknown): void {
    this.#log(error, call);
    call.emit('error', toGrpcStatus(error));
  }

  /** Ends every stream; the nodes come back to whoever serves next. */
  closeAll(reason: LatchkeyError): void {
    for (const stream of [...this.#streams.values()]) stream.end(reason);
  }
}

class RevocationStream {
  readonly #server: KeyServer;
  readonly #changes: ChangeReader;
  readonly #call: Call;
  readonly #identity: CertifiedIdentity;
  readonly #onEnd: (error?: unknown) => void;
  readonly #unsubscribe: () => void;
  readonly #heartbeat: NodeJS.Timeout;
  /** Runs when the certificate ends before the next heartbeat, which would find it too late. */
  #certificateEnd: NodeJS.Timeout | undefined;
  #position: ChainPosition | undefined;
  #toldRevision: number;
  /** One telling after the other, so that revisions never go back on the wire. */
  #telling: Promise<void> = Promise.resolve();
  #ended = false;

  constructor(
    server: KeyServer,
    changes: ChangeReader,
    call: Call,
    identity: CertifiedIdentity,
    onEnd: (error?: unknown) => void,
  ) {
    this.#server = server;
    this.#changes = changes;
    this.#call = call;
    this.#identity = identity;
    this.#onEnd = onEnd;
    this.#toldRevision = call.request.afterRevision;
    this.#position = call.request.position;
    // Subscribed before the first read, so that no change falls between the two.
    this.#unsubscribe = server.changes.subscribe(identity.nodeId, () => {
      this.tell({ alsoWhenQuiet: false });
    });
    this.#heartbeat = setInterval(() => {
      this.#awaitCertificateEnd();
      this.tell({ alsoWhenQuiet: true });
    }, WATCH_HEARTBEAT_MS);
    this.#awaitCertificateEnd();
    call.on('cancelled', () => {
      this.end();
    });
  }

  #awaitCertificateEnd(): void {
    const leftMs = this.#identity.expiresAtMs - this.#server.clock.nowMs();
    if (leftMs > WATCH_HEARTBEAT_MS) return;
    clearTimeout(this.#certificateEnd);
    this.#certificateEnd = setTimeout(() => {
      this.tell({ alsoWhenQuiet: false });
    }, leftMs);
  }

  /** Sends what has changed; a heartbeat when nothing has and one is due. */
  tell(options: { readonly alsoWhenQuiet: boolean }): void {
    this.#telling = this.#telling.then(async () => {
      if (this.#ended) return;
      try {
        // A stream can outlive the certificate it was opened with.
        refuseExpired(this.#identity, this.#server.clock.nowMs());
        const since = await this.#changes.read({
          identity: this.#identity,
          afterRevision: this.#toldRevision,
          position: this.#position,
        });
        this.#send(since, options.alsoWhenQuiet);
        // From now on other requests of the session move its counter.
        if (this.#position !== undefined)
          this.#position = { ...this.#position, counter: Number.MAX_SAFE_INTEGER };
      } catch (error) {
        this.end(error);
      }
    });
  }

  #send(since: ChangesSince, alsoWhenQuiet: boolean): void {
    for (const change of since.changes) {
      this.#write(change.revision, { $case: 'licenseChange', value: toMessage(change) });
    }
    if (alsoWhenQuiet && since.nodeDenial === null)
      this.#write(since.revision, { $case: 'heartbeat', value: {} });
    this.#toldRevision = since.revision;
    if (since.nodeDenial !== null) this.end(since.nodeDenial);
  }

  #write(revision: number, event: NonNullable<WatchRevocationsResponse['event']>): void {
    this.#call.write({ revision, serverTimeMs: this.#server.clock.nowMs(), event });
  }

  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#heartbeat);
    clearTimeout(this.#certificateEnd);
    this.#unsubscribe();
    this.#onEnd(error);
  }
}

export function toMessage(change: LicenseChange): LicenseChangeMessage {
  return {
    licenseId: change.licenseId,
    epoch: change.epoch,
    state: change.state,
    denial: change.denial === null ? undefined : toDenial(change.denial),
  };
}

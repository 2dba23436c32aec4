/**
 * Listens for license changes, and comes back when the line is cut. A stream that has said nothing for too
 * long is taken for dead, because a firewall that swallows packets looks just like a quiet day. While there is no
 * stream, the key server is asked every few seconds: some proxies let calls through but no streams.
 */
import type { Clock } from '#src/base/clock.ts';
import { type ErrorCode, type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { WATCH_DEAD_AFTER_MS, WATCH_POLL_EVERY_MS, WATCH_POLL_MAX_MS } from '#src/base/limits.ts';
import type {
  LicenseChange,
  ListChangesResponse,
  WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import type { KeyServer } from './key-server.ts';

/** Short at first, since until then a revocation does not arrive; it doubles while streams do not come about. */
const RECONNECT_AFTER_MS = 500;
const RECONNECT_MAX_MS = 15_000;

/** The key server will have nothing to do with this node. */
const NODE_REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'DENIED_NODE_BANNED',
  'DENIED_NODE_UNKNOWN',
  'DENIED_NODE_RETIRED',
  'DENIED_NODE_RESTORED',
  'DENIED_NODE_CLONED',
]);

export interface WatchState {
  /** True while changes arrive, by whichever way. */
  readonly connected: boolean;
  /** How they arrive. */
  readonly by: 'stream' | 'poll' | 'nothing';
  /** Wall clock of the last message; 0 = never. */
  readonly lastContactMs: number;
  /** Of the last message. */
  readonly revision: number;
}

export interface WatchEvents {
  readonly onChange: (change: LicenseChange, revision: number) => void;
  /** Every change up to the revision has been passed on. */
  readonly onCaughtUp?: (revision: number) => void;
  /** The key server ended the stream because of who we are. */
  readonly onRefused: (reason: LatchkeyError) => void;
}

type Stream = Awaited<ReturnType<KeyServer['watchRevocations']>>;

export class RevocationWatch {
  readonly #clock: Clock;
  readonly #events: WatchEvents;
  /** Uniform in [0, 1); spreads nodes that were cut off together. */
  readonly #random: () => number;
  #state: WatchState = { connected: false, by: 'nothing', lastContactMs: 0, revision: 0 };
  #run: AbortController | undefined;

  constructor(clock: Clock, events: WatchEvents, random: () => number = Math.random) {
    this.#clock = clock;
    this.#events = events;
    this.#random = random;
  }

  get state(): WatchState {
    return this.#state;
  }

  /** Watches a key server until `stop`; a second start replaces the first. */
  start(keyServer: KeyServer): void {
    this.stop();
    this.#run = new AbortController();
    const { signal } = this.#run;
    void this.#keepStreaming(keyServer, signal);
    void this.#keepPolling(keyServer, signal);
  }

  stop(): void {
    this.#run?.abort();
    this.#run = undefined;
    this.#lost();
  }

  async #keepStreaming(keyServer: KeyServer, signal: AbortSignal): Promise<void> {
    for (let waitMs = RECONNECT_AFTER_MS; !isOver(signal);) {
      const heard = await this.#streamOnce(keyServer, signal);
      if (isOver(signal)) return;
      if (this.#state.by === 'stream') this.#lost();
      waitMs = heard ? RECONNECT_AFTER_MS : Math.min(RECONNECT_MAX_MS, waitMs * 2);
      await pause(waitMs * (0.5 + this.#random()), signal);
    }
  }

  /** Resolves when the stream has ended, with whether it ever said anything. */
  async #streamOnce(keyServer: KeyServer, signal: AbortSignal): Promise<boolean> {
    let stream: Stream;
    try {
      stream = await keyServer.watchRevocations(this.#state.revision);
    } catch (error) {
      this.failed(toLatchkeyError(error));
      return false;
    }
    return new Promise((resolve) => {
      let heard = false;
      let timer: NodeJS.Timeout | undefined;
      const cancel = (): void => {
        stream.cancel();
      };
      const alive = (): void => {
        clearTimeout(timer);
        timer = setTimeout(cancel, WATCH_DEAD_AFTER_MS);
      };
      alive();
      signal.addEventListener('abort', cancel, { once: true });
      if (isOver(signal)) cancel();
      stream.on('data', ({ revision, event }: WatchRevocationsResponse) => {
        if (isOver(signal)) return;
        // A key server that has forgotten what it has said must not be believed; the next opening says so.
        if (revision < this.#state.revision) {
          cancel();
          return;
        }
        alive();
        heard = true;
        this.#heard('stream', revision);
        if (event?.$case !== 'licenseChange') return;
        this.#events.onChange(event.value, revision);
        this.#events.onCaughtUp?.(revision);
      });
      // 'error' is followed by 'close'.
      stream.on('error', (error) => {
        if (!isOver(signal)) this.failed(keyServer.explain(error));
      });
      stream.once('close', () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', cancel);
        resolve(heard);
      });
    });
  }

  async #keepPolling(keyServer: KeyServer, signal: AbortSignal): Promise<void> {
    let waitMs = WATCH_POLL_EVERY_MS;
    for (;;) {
      await pause(waitMs * (0.75 + this.#random() / 2), signal);
      if (isOver(signal)) return;
      if (this.#state.by === 'stream') {
        waitMs = WATCH_POLL_EVERY_MS;
        continue;
      }
      try {
        const answer = await keyServer.listChanges(this.#state.revision);
        if (!isOver(signal)) this.#takeAnswer(answer);
        waitMs = WATCH_POLL_EVERY_MS;
      } catch (error) {
        if (isOver(signal)) return;
        if (this.#state.by === 'poll') this.#lost();
        this.failed(toLatchkeyError(error));
        waitMs = Math.min(WATCH_POLL_MAX_MS, waitMs * 2);
      }
    }
  }

  #takeAnswer({ changes, revision }: ListChangesResponse): void {
    // A stream may have come about meanwhile, and told all of it.
    if (revision < this.#state.revision) return;
    if (this.#state.by !== 'stream') this.#heard('poll', revision);
    for (const change of changes) this.#events.onChange(change, revision);
    if (changes.length > 0) this.#events.onCaughtUp?.(revision);
  }

  #heard(by: 'stream' | 'poll', revision: number): void {
    this.#state = { connected: true, by, lastContactMs: this.#clock.nowMs(), revision };
  }

  #lost(): void {
    this.#state = { ...this.#state, connected: false, by: 'nothing' };
  }

  /** A question to the key server came to nothing; it may have refused the node. */
  failed(error: LatchkeyError): void {
    if (NODE_REFUSALS.has(error.code)) this.#events.onRefused(error);
  }
}

/** Resolves early when the signal aborts. */
function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, durationMs);
    signal.addEventListener('abort', done, { once: true });
    if (isOver(signal)) done();
  });
}

/** A call, because the compiler takes a property that it has looked at for unchanged across an await. */
function isOver(signal: AbortSignal): boolean {
  return signal.aborted;
}

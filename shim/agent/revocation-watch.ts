/**
 * Listens for license changes, and comes back when the line is cut. A stream that has said nothing for too
 * long is taken for dead, because a firewall that swallows packets looks just like a quiet day.
 */
import type { Clock } from '#src/base/clock.ts';
import type { LatchkeyError } from '#src/base/errors.ts';
import { WATCH_DEAD_AFTER_MS } from '#src/base/limits.ts';
import type { LicenseChange, WatchRevocationsResponse } from '#src/wire/generated/latchkey/node.ts';
import type { KeyServer } from './key-server.ts';

/** Short, since until then a revocation does not arrive; the server is asked by few nodes at once. */
const RECONNECT_AFTER_MS = 500;

export interface WatchState {
  readonly connected: boolean;
  /** Wall clock of the last message; 0 = never. */
  readonly lastContactMs: number;
  /** Of the last message. */
  readonly revision: number;
}

export interface WatchEvents {
  readonly onChange: (change: LicenseChange, revision: number) => void;
  /** The key server ended the stream because of who we are. */
  readonly onRefused: (reason: LatchkeyError) => void;
}

export class RevocationWatch {
  readonly #clock: Clock;
  readonly #events: WatchEvents;
  #state: WatchState = { connected: false, lastContactMs: 0, revision: 0 };
  #stop: (() => void) | undefined;

  constructor(clock: Clock, events: WatchEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  get state(): WatchState {
    return this.#state;
  }

  /** Watches a key server until `stop`; a second start replaces the first. */
  start(keyServer: KeyServer): void {
    this.stop();
    let stopped = false;
    let stream: ReturnType<KeyServer['watchRevocations']> | undefined;
    let timer: NodeJS.Timeout | undefined;
    const connect = (): void => {
      stream = keyServer.watchRevocations(this.#state.revision);
      const current = stream;
      const alive = (): void => {
        clearTimeout(timer);
        timer = setTimeout(() => current.cancel(), WATCH_DEAD_AFTER_MS);
      };
      alive();
      current.on('data', (message: WatchRevocationsResponse) => {
        alive();
        this.#receive(message);
      });
      // 'error' is followed by 'close', which reconnects.
      current.on('error', (error) => {
        const known = keyServer.explain(error);
        if (known.code === 'DENIED_NODE_BANNED' || known.code === 'DENIED_NODE_UNKNOWN') {
          this.#events.onRefused(known);
        }
      });
      current.once('close', () => {
        clearTimeout(timer);
        this.#state = { ...this.#state, connected: false };
        if (!stopped) timer = setTimeout(connect, RECONNECT_AFTER_MS);
      });
    };
    this.#stop = () => {
      stopped = true;
      clearTimeout(timer);
      stream?.cancel();
    };
    connect();
  }

  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  #receive({ revision, event }: WatchRevocationsResponse): void {
    this.#state = {
      connected: true,
      lastContactMs: this.#clock.nowMs(),
      // The server's own word, also when it is lower: then it was restored, and what it lost has to come again.
      revision,
    };
    if (event?.$case === 'licenseChange') this.#events.onChange(event.value, revision);
  }
}

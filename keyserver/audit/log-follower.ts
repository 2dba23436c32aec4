/**
 * Reads the audit log behind whoever writes it and hands it on in batches. Where it is stands in the database, and moves
 * only once a batch is delivered: so nothing is lost, some may come twice, and no release waits for it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { AUDIT_FOLLOW_BATCH, AUDIT_FOLLOW_INTERVAL_MS, AUDIT_FOLLOW_MAX_PAUSE_MS } from '../limits.ts';
import type { Reader } from '../db/store.ts';
import { auditEventsAfter } from './list-events.ts';

export interface LogFollowing {
  readonly read: Reader;
  /** False while another process does it. */
  readonly isOurs: () => Promise<boolean>;
  /** The last sequence number that was delivered; null = there is nothing to do. */
  readonly position: () => Promise<number | null>;
  /** Delivers the events that follow a position, as far as it gets, and stores each new position. */
  readonly deliver: (events: readonly AuditEvent[], from: number, stopping: AbortSignal) => Promise<void>;
  readonly onFailure: (error: unknown) => Promise<void>;
  /** Uniform in [0, 1); spreads what comes again. */
  readonly random: () => number;
}

export class LogFollower {
  readonly #following: LogFollowing;
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(following: LogFollowing) {
    this.#following = following;
  }

  start(): void {
    this.#running = this.#run(this.#stopping.signal);
  }

  /** Gives up a delivery under way; it comes again after the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(stopping: AbortSignal): Promise<void> {
    const isOver = () => stopping.aborted;
    for (let failures = 0; !isOver();) {
      let isAtEnd = true;
      try {
        isAtEnd = await this.#deliverNext(stopping);
        failures = 0;
      } catch (error) {
        if (isOver()) return;
        failures += 1;
        // Storing the failure may fail as well: then the database is what is away.
        await this.#following.onFailure(error).catch(() => undefined);
      }
      if (isAtEnd) await this.#pause(failures, stopping);
    }
  }

  /** @returns true when there was no full batch */
  async #deliverNext(stopping: AbortSignal): Promise<boolean> {
    const { read, isOurs, position, deliver } = this.#following;
    if (!(await isOurs())) return true;
    const from = await position();
    if (from === null) return true;
    const events = await auditEventsAfter(read, from, AUDIT_FOLLOW_BATCH);
    if (events.length > 0) await deliver(events, from, stopping);
    return events.length < AUDIT_FOLLOW_BATCH;
  }

  async #pause(failures: number, signal: AbortSignal): Promise<void> {
    const grown = AUDIT_FOLLOW_INTERVAL_MS * 2 ** failures * (1 - this.#following.random() / 2);
    const pauseMs = failures === 0 ? AUDIT_FOLLOW_INTERVAL_MS : Math.min(AUDIT_FOLLOW_MAX_PAUSE_MS, grown);
    // Cut short by the end.
    await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

/** Prolongs leases before they end, and ends those whose time is up. One small timer for all. */
import type { Clock } from '#src/base/clock.ts';
import { MAX_LEASES_PER_RENEWAL } from '#src/base/limits.ts';
import { tokensOf } from '#src/crypto/open-token.ts';
import type { KeyServer } from './key-server.ts';
import { fromDenial } from './lease-denial.ts';
import type { HeldLease } from './held-lease.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import { ANY_IMAGE, leaseTimeMs } from './lease.ts';

const TICK_MS = 500;
/** After a failed renewal; the lease itself bounds how long this can go on. */
const RETRY_AFTER_MS = 2000;

export class LeaseRenewal {
  readonly #leases: LeaseKeeper;
  readonly #clock: Clock;
  readonly #onFailure: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #busy = false;
  #notBeforeMs = 0;

  constructor(leases: LeaseKeeper, clock: Clock, onFailure: (error: unknown) => void) {
    this.#leases = leases;
    this.#clock = clock;
    this.#onFailure = onFailure;
  }

  start(keyServer: KeyServer): void {
    this.stop();
    this.#timer = setInterval(() => {
      this.#leases.sweepExpired();
      void this.#renewDue(keyServer);
    }, TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #renewDue(keyServer: KeyServer): Promise<void> {
    if (this.#busy || this.#clock.monotonicMs() < this.#notBeforeMs) return;
    const due = this.#leases
      .all()
      // A key provider call is over once it is answered: its lease, and the key in memory, may lapse.
      .filter((lease) => lease.subject.imageDigest !== ANY_IMAGE && lease.carried === undefined)
      .filter((lease) => this.#leases.isGood(lease))
      .filter(({ anchor, claims }) => leaseTimeMs(anchor, this.#clock) >= claims.renewAtMs)
      .slice(0, MAX_LEASES_PER_RENEWAL);
    if (due.length === 0) return;
    this.#busy = true;
    try {
      await this.#renew(keyServer, due);
    } catch (error) {
      this.#notBeforeMs = this.#clock.monotonicMs() + RETRY_AFTER_MS;
      this.#onFailure(error);
    } finally {
      this.#busy = false;
    }
  }

  async #renew(keyServer: KeyServer, due: readonly HeldLease[]): Promise<void> {
    const answer = await keyServer.renewLeases({
      leaseIds: due.map(({ claims }) => claims.leaseId),
      nodeTimeMs: this.#clock.nowMs(),
      acceptsLeaseList: true,
    });
    const failures: unknown[] = [];
    const listed = tokensOf(answer.leaseList);
    for (const { leaseId, outcome } of answer.results) {
      const lease = due.find(({ claims }) => claims.leaseId === leaseId);
      if (lease === undefined || outcome === undefined) continue;
      if (outcome.$case === 'denial') {
        this.#leases.end(lease, fromDenial(outcome.value));
        continue;
      }
      const token = outcome.$case === 'lease' ? outcome.value : (listed[outcome.value] ?? '');
      // One that is not valid must not stand in the way of the others.
      await this.#leases
        .renewed(lease, token, answer.serverTimeMs)
        .catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** Challenges that nodes have to sign: random, in memory, good once and for a short time. */
import { randomBytes } from 'node:crypto';
import type { Clock } from '#src/base/clock.ts';
import { CHALLENGE_LIFETIME_MS, MAX_OPEN_CHALLENGES } from '../limits.ts';
import { CHALLENGE_NONCE_BYTES } from '#src/licensing/node-proof.ts';

export class Challenges {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  /** Nonce to its end, oldest first. */
  readonly #open = new Map<string, number>();

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  issue(): Buffer {
    const [oldest] = this.#open.keys();
    if (oldest !== undefined && this.#open.size >= MAX_OPEN_CHALLENGES) this.#open.delete(oldest);
    const nonce = randomBytes(CHALLENGE_NONCE_BYTES);
    this.#open.set(nonce.toString('hex'), this.#clock.monotonicMs() + CHALLENGE_LIFETIME_MS);
    return nonce;
  }

  /** Uses a challenge up; false = it is not one of ours, was used before, or is too old. */
  take(nonce: Uint8Array): boolean {
    const key = Buffer.from(nonce).toString('hex');
    const endsAtMs = this.#open.get(key);
    this.#open.delete(key);
    return endsAtMs !== undefined && this.#clock.monotonicMs() < endsAtMs;
  }
}

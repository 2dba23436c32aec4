/** Token buckets, one for each peer address: what a stranger may ask of the server. */
import type { Clock } from '#src/base/clock.ts';

interface Bucket {
  tokens: number;
  filledAtMs: number;
}

export interface RateLimits {
  readonly perSecond: number;
  readonly burst: number;
  /** Addresses remembered; beyond it, the one that was quiet the longest is forgotten. */
  readonly maxPeers: number;
}

export class RateLimit {
  readonly #limits: RateLimits;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  /** In the order of their last use. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(limits: RateLimits, clock: Pick<Clock, 'monotonicMs'>) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Takes one token of an address; false = there is none.
   * @param peer `host:port` of the connection, as gRPC gives it; the port does not count
   */
  take(peer: string): boolean {
    const { perSecond, burst, maxPeers } = this.#limits;
    const address = peer.slice(0, peer.lastIndexOf(':'));
    const nowMs = this.#clock.monotonicMs();
    const bucket = this.#buckets.get(address) ?? { tokens: burst, filledAtMs: nowMs };
    const refill = ((nowMs - bucket.filledAtMs) / 1000) * perSecond;
    const tokens = Math.min(burst, bucket.tokens + refill);
    const allowed = tokens >= 1;
    this.#buckets.delete(address);
    this.#buckets.set(address, { tokens: allowed ? tokens - 1 : tokens, filledAtMs: nowMs });
    const [quietest] = this.#buckets.keys();
    if (quietest !== undefined && this.#buckets.size > maxPeers) this.#buckets.delete(quietest);
    return allowed;
  }
}

/** Token buckets, one for each address, node, license or token: what each of them may ask of the server. */
import { isIPv6 } from 'node:net';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_COUNTED_CALLERS } from './limits.ts';

export interface Rate {
  /** Saved up by a caller that was quiet. */
  readonly burst: number;
  readonly perSecond: number;
}

/** Sums of fractions are off by less; no token is lost to that. */
const ROUNDING_MS = 0.001;

export class RateLimit {
  readonly #burst: number;
  /** In which one token comes back. */
  readonly #intervalMs: number;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #maxCallers: number;
  /** When the bucket of each caller is full again; in the order of their last use. */
  readonly #fullAtMs = new Map<string, number>();

  /** @param maxCallers remembered; beyond it, the one that was quiet the longest is forgotten, and starts anew */
  constructor(rate: Rate, clock: Pick<Clock, 'monotonicMs'>, maxCallers = MAX_COUNTED_CALLERS) {
    this.#burst = rate.burst;
    this.#intervalMs = 1000 / rate.perSecond;
    this.#clock = clock;
    this.#maxCallers = maxCallers;
  }

  /** Takes one token of a caller. @returns 0, or in how many milliseconds there will be one */
  take(caller: string): number {
    const nowMs = this.#clock.monotonicMs();
    const fullAtMs = Math.max(nowMs, this.#fullAtMs.get(caller) ?? nowMs);
    const waitMs = fullAtMs - (this.#burst - 1) * this.#intervalMs - nowMs;
    const isTaken = waitMs < ROUNDING_MS;
    this.#fullAtMs.delete(caller);
    this.#fullAtMs.set(caller, isTaken ? fullAtMs + this.#intervalMs : fullAtMs);
    const [quietest] = this.#fullAtMs.keys();
    if (quietest !== undefined && this.#fullAtMs.size > this.#maxCallers) this.#fullAtMs.delete(quietest);
    return isTaken ? 0 : Math.ceil(waitMs);
  }

  /**
   * Takes one token of a caller.
   * @param flood what there is too much of, for the message: `activations from this address`
   * @throws LatchkeyError RATE_LIMITED that says when to come back
   */
  spend(caller: string, flood: string): void {
    const retryAfterMs = this.take(caller);
    if (retryAfterMs === 0) return;
    throw new LatchkeyError('RATE_LIMITED', `too many ${flood}`, {
      hint: `try again in ${Math.ceil(retryAfterMs / 1000)} s`,
      retryAfterMs,
    });
  }
}

/**
 * Whose tokens a connection takes: an IPv4 address, or the /64 network of an IPv6 address, all of which one machine has.
 * @param address as Node.js gives it, which an IPv4 address may be mapped into
 */
export function addressGroup(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.toLowerCase().replace(/%.*$/, '').split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const gap = tail === undefined ? 0 : 8 - before.length - after.length;
  const groups = [...before, ...Array.from({ length: gap }, () => '0'), ...after];
  const network = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${network.join(':')}::/64`;
}

/** The host of `host:port`, as gRPC names the other end of a connection. */
export function hostOfPeer(peer: string): string {
  return peer.slice(0, peer.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
}

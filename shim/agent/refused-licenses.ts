/** The licenses under which nothing starts, as the key server has said, and what has become of what ran under them. */
import { BoundedMap } from '#src/base/bounded-map.ts';
import type { Clock } from '#src/base/clock.ts';
import type { ErrorCode, LatchkeyError } from '#src/base/errors.ts';
import { MAX_REMEMBERED_LICENSES } from '#src/base/limits.ts';

/**
 * Somebody has decided against the customer or the node, or the license has come to its end. A lease that ran out, a
 * clock that is wrong or a withdrawn image says nothing of the kind and must not end what is running.
 */
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'DENIED_LICENSE_REVOKED',
  'DENIED_LICENSE_SUSPENDED',
  'DENIED_LICENSE_EXPIRED',
  'DENIED_CUSTOMER_BLOCKED',
  'DENIED_NODE_BANNED',
  'DENIED_NODE_UNKNOWN',
  'DENIED_NODE_RETIRED',
  'DENIED_NODE_CLONED',
]);

/** True for a denial that is about the license or the node as a whole. */
export function isRefusal(denial: LatchkeyError): boolean {
  return REFUSALS.has(denial.code);
}

export interface RefusedLicense {
  readonly licenseId: string;
  readonly denial: LatchkeyError;
  /** Of the license, as far as this node knows it. */
  readonly epoch: number;
  /** Wall clock and the one that never goes back, when starts were refused first. */
  readonly sinceMs: number;
  readonly sinceMonotonicMs: number;
  /** Containers that were ended because of it. */
  readonly stopped: Set<string>;
  /** Wall clock; 0 = there is plaintext still. */
  plaintextGoneAtMs: number;
}

export class RefusedLicenses {
  readonly #clock: Clock;
  readonly #refused = new BoundedMap<string, RefusedLicense>(MAX_REMEMBERED_LICENSES);
  #nodeDenial: LatchkeyError | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @returns the refusal when it is news; undefined when it is known already */
  refuse(licenseId: string, denial: LatchkeyError, epoch: number): RefusedLicense | undefined {
    const known = this.#refused.get(licenseId);
    if (known?.denial.code === denial.code && known.epoch >= epoch) return undefined;
    const refused: RefusedLicense = {
      licenseId,
      denial,
      epoch: Math.max(epoch, known?.epoch ?? 0),
      sinceMs: known?.sinceMs ?? this.#clock.nowMs(),
      sinceMonotonicMs: known?.sinceMonotonicMs ?? this.#clock.monotonicMs(),
      stopped: known?.stopped ?? new Set(),
      plaintextGoneAtMs: 0,
    };
    this.#refused.set(licenseId, refused);
    return refused;
  }

  /** The key server will have nothing to do with this node. */
  refuseNode(denial: LatchkeyError): void {
    this.#nodeDenial = denial;
  }

  /** A license is in force, and so is the node. */
  allow(licenseId: string): void {
    this.#refused.delete(licenseId);
    this.#nodeDenial = undefined;
  }

  get(licenseId: string): RefusedLicense | undefined {
    return this.#refused.get(licenseId);
  }

  /** What starts under a license are told; undefined when nothing is known against it. */
  denialOf(licenseId: string): LatchkeyError | undefined {
    return this.#refused.get(licenseId)?.denial ?? this.#nodeDenial;
  }

  /** Those that are refused as a whole. */
  all(): RefusedLicense[] {
    return [...this.#refused.values()].filter(({ denial }) => isRefusal(denial));
  }
}

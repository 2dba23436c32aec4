/** What may be done with an image on this node now, from its lease, the newest denials and what was known before. */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { OnRevoke } from '#src/licensing/license-state.ts';
import type { Snapshot } from '../snapshotter/snapshot.ts';
import { gatesOf } from './gated-workloads.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import type { LeaseSubject } from './lease.ts';
import type { LicensedImages } from './licensed-images.ts';
import { type RefusedLicenses, isRefusal } from './refused-licenses.ts';

/**
 * `denied`: the key server says no to this image; `refused`: no to the license or the node as a whole. `no-lease`: nobody
 * has said anything, the lease just ended.
 */
export type Standing = 'licensed' | 'no-lease' | 'denied' | 'refused';

export interface Refusal {
  readonly licenseId: string;
  readonly denial: LatchkeyError;
  readonly onRevoke: OnRevoke;
}

export interface StandingParts {
  readonly leases: LeaseKeeper;
  readonly images: LicensedImages;
  readonly refused: RefusedLicenses;
}

export class Standings {
  readonly #parts: StandingParts;

  constructor(parts: StandingParts) {
    this.#parts = parts;
  }

  ofSubject(subject: LeaseSubject): Standing {
    if (this.#parts.leases.findGood(subject) !== undefined) return 'licensed';
    if (this.refusalOf(subject) !== undefined) return 'refused';
    return this.#parts.leases.denialOf(subject) === undefined ? 'no-lease' : 'denied';
  }

  /** A chain stands as the worst of its gated layers. */
  ofChain(chain: readonly Snapshot[]): Standing {
    const standings = gatesOf(chain).map((gate) => this.ofSubject(gate));
    return (
      (['refused', 'denied', 'no-lease'] as const).find((standing) => standings.includes(standing)) ??
      'licensed'
    );
  }

  /** Why nothing may run from an image, when its license or this node is refused as a whole. */
  refusalOf(subject: LeaseSubject): Refusal | undefined {
    const { leases, images, refused } = this.#parts;
    if (leases.findGood(subject) !== undefined) return undefined;
    const claims = leases.find(subject)?.claims ?? images.of(subject);
    const denials = [
      leases.denialOf(subject),
      claims === undefined ? undefined : refused.denialOf(claims.licenseId),
    ];
    const denial = denials.find((known) => known !== undefined && isRefusal(known));
    if (denial === undefined) return undefined;
    return {
      licenseId: claims?.licenseId ?? denial.licenseId ?? '',
      denial,
      onRevoke: claims?.onRevoke ?? 'deny-start',
    };
  }
}

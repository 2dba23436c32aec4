import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ChainedLease, isLeaseCloned } from '#src/licensing/lease-chain.ts';

/** A key server that keeps every lease, and finds those that were renewed by looking at all of them. */
class Leases {
  readonly #all: ChainedLease[] = [];

  give(previousLeaseId: string | null = null): ChainedLease {
    const lease = { leaseId: `lease-${this.#all.length}`, previousLeaseId };
    this.#all.push(lease);
    return lease;
  }

  /** The lease that follows; 'cloned' when this one shows that two hold it. */
  renew(lease: ChainedLease): ChainedLease | 'cloned' {
    const renewed = this.#all.filter(({ leaseId }) =>
      this.#all.some(({ previousLeaseId }) => previousLeaseId === leaseId),
    );
    return isLeaseCloned(lease, renewed) ? 'cloned' : this.give(lease.leaseId);
  }
}

/** Renews until the answer arrives. */
function renewed(leases: Leases, held: ChainedLease, lostAnswers: number): ChainedLease | 'cloned' {
  for (let lost = 0; lost < lostAnswers; lost += 1) if (leases.renew(held) === 'cloned') return 'cloned';
  return leases.renew(held);
}

const lostAnswers = fc.array(fc.nat(3), { minLength: 1, maxLength: 12 });

describe('a chain of leases', () => {
  test('is that of one node, however many of its answers are lost', () => {
    fc.assert(
      fc.property(fc.array(lostAnswers, { minLength: 1, maxLength: 3 }), (images) => {
        const leases = new Leases();
        const held = images.map(() => leases.give());
        for (const [image, rounds] of images.entries()) {
          for (const lost of rounds) {
            const next = renewed(leases, held[image]!, lost);
            if (next === 'cloned') throw new Error('an honest node was taken for a copy');
            held[image] = next;
          }
        }
      }),
    );
  });

  test('shows that two hold it as soon as each has gone on from where they were one', () => {
    fc.assert(
      fc.property(lostAnswers, fc.array(fc.boolean(), { minLength: 4, maxLength: 30 }), (rounds, turns) => {
        const leases = new Leases();
        let common = leases.give();
        for (const lost of rounds) common = renewed(leases, common, lost) as ChainedLease;
        const held = [common, common];
        const count = [0, 0];
        for (const turn of turns) {
          const who = turn ? 1 : 0;
          const next = leases.renew(held[who]!);
          if (next === 'cloned') return;
          held[who] = next;
          count[who]! += 1;
          // The first may be taken for a lost answer, by either.
          expect(Math.min(...count)).toBeLessThan(2);
        }
      }),
    );
  });

  test('says nothing of another chain', () => {
    const leases = new Leases();
    const [one, other] = [leases.give(), leases.give()];
    leases.renew(leases.renew(one) as ChainedLease);
    expect(leases.renew(other)).not.toBe('cloned');
  });
});

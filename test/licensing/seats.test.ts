import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OVERAGES, type SeatFacts, isOverdrawn, seatGap, seatLimit } from '#src/licensing/seats.ts';

const free: SeatFacts = { maxNodes: 4, usedSeats: 0, heldByThisNode: false };

describe('seatLimit', () => {
  it.each([
    ['none', 5, 5],
    ['1.25x', 5, 6],
    ['1.25x', 3, 3],
    ['1.5x', 3, 4],
    ['2x', 3, 6],
    ['always', 1, Infinity],
  ] as const)('%s of %d is %d', (overage, max, limit) => {
    expect(seatLimit(max, overage)).toBe(limit);
  });
});

describe('seatGap', () => {
  it('says what is allowed, with overage where there is some', () => {
    expect(seatGap({ ...free, usedSeats: 4 })?.reason).toBe('is used up: it allows 4 nodes');
    expect(seatGap({ ...free, usedSeats: 6, overage: '1.5x' })?.reason).toBe(
      'is used up: it allows 4 and, with overage, 6 nodes',
    );
    expect(seatGap({ ...free, concurrent: { max: 1, used: 1, held: false } })?.reason).toBe(
      'is used up: it allows 1 node at once',
    );
  });

  it('refuses whoever has no seat when the limit with overage is reached, and nobody else', () => {
    const count = fc.record({ max: fc.integer({ min: 1, max: 9 }), used: fc.nat(20), held: fc.boolean() });
    fc.assert(
      fc.property(
        count,
        count,
        count,
        fc.constantFrom(...OVERAGES),
        (nodes, installations, concurrent, overage) => {
          const seats = {
            ...{ maxNodes: nodes.max, usedSeats: nodes.used, heldByThisNode: nodes.held },
            ...{ installations, concurrent, overage },
          };
          const factor = { none: 4, '1.25x': 5, '1.5x': 6, '2x': 8, always: Infinity }[overage];
          // In quarters of a seat: whole numbers only.
          const isFull = ({ max, used, held }: typeof nodes) => !held && (used + 1) * 4 > max * factor;
          const expected = isFull(installations)
            ? 'DENIED_INSTALLATION_LIMIT'
            : isFull(nodes)
              ? 'DENIED_NODE_LIMIT'
              : isFull(concurrent)
                ? 'DENIED_CONCURRENCY_LIMIT'
                : undefined;
          expect(seatGap(seats)?.code).toBe(expected);
          expect(isOverdrawn(seats)).toBe(
            [installations, nodes, concurrent].some(({ max, used, held }) => !held && used + 1 > max),
          );
        },
      ),
    );
  });
});

/** The checker of histories must find what is wrong, and nothing else. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type HeldState,
  type LicenseOperation,
  findContradiction,
  grantsAfterRevocation,
} from './license-history.ts';

const change = (state: HeldState, askedAt: number, answeredAt: number | null): LicenseOperation => ({
  kind: 'change',
  ...{ state, askedAt, answeredAt },
});
const seen = (state: HeldState, askedAt: number, answeredAt: number | null): LicenseOperation => ({
  kind: 'observation',
  ...{ state, askedAt, answeredAt },
});

describe('a history that cannot have been', () => {
  test.each<[string, LicenseOperation[]]>([
    ['a grant after the revocation', [change('REVOKED', 1, 2), seen('ACTIVE', 3, 4)]],
    ['a grant after the suspension', [change('SUSPENDED', 1, 2), seen('ACTIVE', 3, 4)]],
    ['a denial before anybody asked for it', [seen('SUSPENDED', 1, 2), change('SUSPENDED', 3, 4)]],
    ['a denial without a cause', [seen('REVOKED', 1, 2)]],
    [
      'a denial after the reinstatement',
      [change('SUSPENDED', 1, 2), change('ACTIVE', 3, 4), seen('SUSPENDED', 5, 6)],
    ],
    [
      'new, then old, within one change',
      [change('SUSPENDED', 1, 10), seen('SUSPENDED', 2, 3), seen('ACTIVE', 4, 5)],
    ],
    [
      'a revocation whose answer was lost is seen, then forgotten',
      [change('REVOKED', 1, null), seen('REVOKED', 2, 3), seen('ACTIVE', 4, 5)],
    ],
    [
      'a change after the revocation',
      [change('REVOKED', 1, 2), change('ACTIVE', 3, 4), seen('ACTIVE', 5, 6)],
    ],
    [
      'a lost suspension used twice',
      [
        change('SUSPENDED', 1, null),
        ...[seen('SUSPENDED', 2, 3), change('ACTIVE', 4, 5), seen('SUSPENDED', 6, 7)],
      ],
    ],
  ])('is found: %s', (_name, history) => {
    expect(findContradiction(history)).not.toBeNull();
  });
});

describe('a history that can have been', () => {
  test.each<[string, LicenseOperation[]]>([
    ['nothing', []],
    ['a grant while the license is revoked', [change('REVOKED', 1, 4), seen('ACTIVE', 2, 5)]],
    [
      'each node on another side of a change',
      [change('SUSPENDED', 1, 10), seen('SUSPENDED', 2, 9), seen('ACTIVE', 3, 8)],
    ],
    ['a lost change that never was', [change('SUSPENDED', 1, null), seen('ACTIVE', 2, 3)]],
    [
      'a lost change that came late',
      [change('SUSPENDED', 1, null), seen('ACTIVE', 2, 3), seen('SUSPENDED', 4, 5)],
    ],
    ['a question without an answer', [change('REVOKED', 1, 2), seen('ACTIVE', 3, null)]],
    [
      'a lost change that was asked for again',
      [change('REVOKED', 1, null), change('REVOKED', 2, 3), seen('REVOKED', 4, 5)],
    ],
  ])('is explained: %s', (_name, history) => {
    expect(findContradiction(history)).toBeNull();
  });

  test('whatever the order and the overlap, when each happened at one moment', () => {
    const step = fc.record({
      what: fc.constantFrom('SUSPENDED', 'ACTIVE', 'see', 'see', 'see'),
      before: fc.integer({ min: 1, max: 40 }),
      after: fc.integer({ min: 1, max: 40 }),
      isLost: fc.integer({ min: 0, max: 9 }).map((number) => number === 0),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        let state: HeldState = 'ACTIVE';
        const history = steps.map(({ what, before, after, isLost }, index): LicenseOperation => {
          if (what !== 'see') state = what;
          // Fractions keep the moments apart.
          const askedAt = index * 10 - before + index / 1000;
          const answeredAt = isLost ? null : index * 10 + after + index / 1000 + 0.0001;
          return { kind: what === 'see' ? 'observation' : 'change', state, askedAt, answeredAt };
        });
        expect(findContradiction(history)).toBeNull();
      }),
    );
  });
});

test('grants after a revocation are told apart from those that were on their way', () => {
  const late = seen('ACTIVE', 5, 6);
  const history = [change('REVOKED', 1, 4), seen('ACTIVE', 2, 7), late, change('SUSPENDED', 8, 9)];
  expect(grantsAfterRevocation(history)).toEqual([late]);
  expect(grantsAfterRevocation([change('REVOKED', 1, null), late])).toEqual([]);
  expect(grantsAfterRevocation([change('REVOKED', 1, 2), seen('ACTIVE', 3, null)])).toEqual([]);
});

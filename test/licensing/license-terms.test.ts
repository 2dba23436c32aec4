import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DEFAULT_TERMS,
  type LicenseTerms,
  TERM_NAMES,
  type TermOverrides,
  changeTerms,
  mergeTerms,
} from '#src/licensing/license-terms.ts';
import { termAnswers, termChanges, toTermChange } from '#src/wire/admin/license-terms.ts';
import { TERM_COLUMNS, fromTermColumns, toTermColumns } from '../../keyserver/domain/term-columns.ts';

const terms: fc.Arbitrary<LicenseTerms> = fc.record({
  maxNodes: fc.integer({ min: 1, max: 9 }),
  maxInstallations: fc.option(fc.integer({ min: 1, max: 9 })),
  maxConcurrent: fc.option(fc.integer({ min: 1, max: 9 })),
  overage: fc.constantFrom('none', '2x', 'always'),
  leaseDurationMs: fc.integer({ min: 1, max: 9 }),
  renewAfterPercent: fc.integer({ min: 10, max: 90 }),
  onRevoke: fc.constantFrom('deny-start', 'kill'),
  versionConstraint: fc.option(fc.constantFrom('^1', '*')),
  entitlements: fc.subarray(['audit', 'sso']),
  durationMs: fc.option(fc.integer({ min: 1, max: 9 })),
  expirationBasis: fc.constantFrom('creation', 'lease'),
  expirationStrategy: fc.constantFrom('revoke-access', 'allow-access'),
  expiryGraceMs: fc.nat(9),
  connectivityGraceMs: fc.nat(9),
  offlineMaxMs: fc.option(fc.nat(9)),
});
const names = fc.subarray([...TERM_NAMES]);
const only = (from: LicenseTerms, chosen: readonly string[]) =>
  Object.fromEntries(Object.entries(from).filter(([name]) => chosen.includes(name))) as TermOverrides;

describe('the terms of a license', () => {
  it('are set, given back or left as they are, each by itself', () => {
    fc.assert(
      fc.property(
        terms,
        names,
        terms,
        terms,
        names,
        names,
        (before, own, template, values, set, inherited) => {
          const change = {
            set: only(values, set),
            inherited: inherited.filter((name) => !set.includes(name)),
          };
          const after = changeTerms(before, own, template, change);
          for (const name of TERM_NAMES) {
            const isSet = set.includes(name);
            const isKept = own.includes(name) && !inherited.includes(name);
            const source = isSet ? values : isKept ? before : template;
            expect(after.terms[name]).toEqual(source[name]);
            expect(after.own.includes(name)).toBe(isSet || isKept);
          }
        },
      ),
    );
  });

  it('are the template where nothing is set', () => {
    fc.assert(
      fc.property(terms, (template) => {
        expect(mergeTerms(template, {})).toEqual(template);
      }),
    );
  });

  it('are the same after they were stored', () => {
    fc.assert(
      fc.property(terms, (any) => {
        expect(fromTermColumns(toTermColumns(any))).toEqual(any);
      }),
    );
  });

  it('have the same names everywhere', () => {
    const everywhere = [
      TERM_COLUMNS,
      termChanges,
      termAnswers,
      fromTermColumns(toTermColumns(DEFAULT_TERMS)),
    ];
    for (const place of everywhere) expect(Object.keys(place).sort()).toEqual([...TERM_NAMES].sort());
  });

  it('are read from a request: null gives back, unlimited is a value', () => {
    const { set, inherited } = toTermChange({ maxConcurrent: 'unlimited', durationMs: null, maxNodes: 2 });
    expect(inherited).toEqual(['durationMs']);
    expect(Object.entries(set).filter(([, value]) => value !== undefined)).toEqual([
      ['maxNodes', 2],
      ['maxConcurrent', null],
    ]);
  });
});

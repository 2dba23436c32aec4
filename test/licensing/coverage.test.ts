import { describe, expect, it } from 'vitest';
import { coverageGap, isAttested, isVersionCovered, isVersionRange } from '#src/licensing/coverage.ts';

describe('a version', () => {
  it.each([
    ['1.4.0', '^1', true],
    ['v1.4.0', '^1', true],
    ['2.0.0', '^1', false],
    ['2.0.0-rc.1', '^1', false],
    ['1.5.0-rc.1', '^1', true],
    ['1.9.9', '>=1.2 <2 || 3.x', true],
    ['2023-11', '>=1', false],
    ['2023-11', '*', true],
    ['1.0.0', 'not a range', false],
  ])('%s in %s: %s', (version, range, covered) => {
    expect(isVersionCovered(version, range)).toBe(covered);
  });

  it('is refused when the range cannot be read', () => {
    expect(isVersionRange('>=1 <2')).toBe(true);
    expect(isVersionRange('newest')).toBe(false);
  });
});

describe('maintenance', () => {
  it('covers releases up to its last moment, for ever', () => {
    expect(coverageGap({ maintenanceUntilMs: 5 }, { publishedAtMs: 5 })).toBeNull();
    expect(coverageGap({ maintenanceUntilMs: 5 }, { publishedAtMs: 6 })).toMatchObject({
      code: 'DENIED_VERSION_NOT_COVERED',
    });
  });
});

describe('entitlements', () => {
  it('are needed all, and the missing one is named', () => {
    expect(coverageGap({ entitlements: ['a', 'b', 'c'] }, { requiredEntitlements: ['a', 'b'] })).toBeNull();
    expect(coverageGap({ entitlements: ['a'] }, { requiredEntitlements: ['a', 'b'] })).toEqual({
      code: 'DENIED_ENTITLEMENT_MISSING',
      reason: 'lacks the entitlement b',
    });
  });
});

describe('attestation', () => {
  it('is enough when as strong or stronger', () => {
    expect(isAttested()).toBe(true);
    expect(isAttested(undefined, 'tpm')).toBe(false);
    expect(isAttested('tee', 'tpm')).toBe(true);
    expect(isAttested('tpm', 'tee')).toBe(false);
  });
});

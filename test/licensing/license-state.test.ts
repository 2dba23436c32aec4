import { describe, expect, it } from 'vitest';
import {
  type LicenseAction,
  type StoredLicenseState,
  licenseStateAt,
  nextLicenseState,
} from '#src/licensing/license-state.ts';

describe('stored states', () => {
  it.each<[StoredLicenseState, LicenseAction, StoredLicenseState | null]>([
    ['PENDING', 'activate', 'ACTIVE'],
    ['PENDING', 'suspend', 'SUSPENDED'],
    ['PENDING', 'reinstate', null],
    ['PENDING', 'revoke', 'REVOKED'],
    ['ACTIVE', 'activate', 'ACTIVE'],
    ['ACTIVE', 'suspend', 'SUSPENDED'],
    ['ACTIVE', 'reinstate', 'ACTIVE'],
    ['ACTIVE', 'revoke', 'REVOKED'],
    ['SUSPENDED', 'activate', null],
    ['SUSPENDED', 'suspend', 'SUSPENDED'],
    ['SUSPENDED', 'reinstate', 'ACTIVE'],
    ['SUSPENDED', 'revoke', 'REVOKED'],
    ['REVOKED', 'activate', null],
    ['REVOKED', 'suspend', null],
    ['REVOKED', 'reinstate', null],
    ['REVOKED', 'revoke', 'REVOKED'],
  ])('%s, %s -> %s', (state, action, next) => {
    if (next === null) {
      expect(() => nextLicenseState('lic_a', state, action)).toThrow(/lic_a is/);
    } else {
      expect(nextLicenseState('lic_a', state, action)).toBe(next);
    }
  });
});

it.each([
  ['PENDING', 'PENDING'],
  ['ACTIVE', 'ACTIVE'],
  [null, 'ACTIVE'],
] as const)('a license that was %s before it was suspended is %s again', (before, next) => {
  expect(nextLicenseState('lic_a', 'SUSPENDED', 'reinstate', before)).toBe(next);
});

describe('the state at a moment', () => {
  it.each([
    [{ state: 'ACTIVE', startsAtMs: null, expiresAtMs: null }, 'ACTIVE'],
    [{ state: 'PENDING', startsAtMs: null, expiresAtMs: null }, 'PENDING'],
    [{ state: 'ACTIVE', startsAtMs: 101, expiresAtMs: null }, 'NOT_STARTED'],
    [{ state: 'ACTIVE', startsAtMs: 100, expiresAtMs: 101 }, 'ACTIVE'],
    [{ state: 'ACTIVE', startsAtMs: null, expiresAtMs: 100 }, 'EXPIRED'],
    [{ state: 'PENDING', startsAtMs: null, expiresAtMs: 100 }, 'EXPIRED'],
    [{ state: 'ACTIVE', startsAtMs: null, expiresAtMs: 100, expiryGraceMs: 1 }, 'GRACE'],
    [{ state: 'PENDING', startsAtMs: null, expiresAtMs: 99, expiryGraceMs: 2 }, 'GRACE'],
    [{ state: 'ACTIVE', startsAtMs: null, expiresAtMs: 99, expiryGraceMs: 1 }, 'EXPIRED'],
    [{ state: 'SUSPENDED', startsAtMs: null, expiresAtMs: 100, expiryGraceMs: 1 }, 'SUSPENDED'],
    [{ state: 'SUSPENDED', startsAtMs: null, expiresAtMs: 1 }, 'SUSPENDED'],
    [{ state: 'REVOKED', startsAtMs: 200, expiresAtMs: null }, 'REVOKED'],
  ] as const)('%j is %s', (term, state) => {
    expect(licenseStateAt(term, 100)).toBe(state);
  });
});

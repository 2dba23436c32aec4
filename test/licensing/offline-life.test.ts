import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DEFAULT_OFFLINE_MS, MAX_OFFLINE_MS, MIN_OFFLINE_MS } from '#src/base/limits.ts';
import { DAY_MS, HOUR_MS } from '#src/base/units.ts';
import { offlineLifeMs } from '#src/licensing/offline-life.ts';

const licenseId = 'lic_1';
const life = fc.integer({ min: MIN_OFFLINE_MS, max: MAX_OFFLINE_MS });

it('is what was asked for, up to what the license allows', () => {
  fc.assert(
    fc.property(life, life, (offlineMaxMs, askedMs) => {
      const ask = () => offlineLifeMs({ licenseId, offlineMaxMs }, askedMs);
      if (askedMs <= offlineMaxMs) expect(ask()).toBe(askedMs);
      else expect(ask).toThrow(expect.objectContaining({ code: 'USAGE_INVALID' }));
    }),
  );
});

it('is a month where nobody asks, or less where the license allows less', () => {
  expect(offlineLifeMs({ licenseId, offlineMaxMs: null }, undefined)).toBe(DEFAULT_OFFLINE_MS);
  fc.assert(
    fc.property(life, (offlineMaxMs) => {
      const lifeMs = Math.min(DEFAULT_OFFLINE_MS, offlineMaxMs);
      expect(offlineLifeMs({ licenseId, offlineMaxMs }, undefined)).toBe(lifeMs);
    }),
  );
});

it('is whatever was asked for under a license without a limit of its own', () => {
  expect(offlineLifeMs({ licenseId, offlineMaxMs: null }, MAX_OFFLINE_MS)).toBe(MAX_OFFLINE_MS);
});

it('says the longest that is allowed', () => {
  expect(() => offlineLifeMs({ licenseId, offlineMaxMs: 90 * DAY_MS }, 91 * DAY_MS)).toThrow(
    'license lic_1 allows offline bundles of at most 90d, not 91d',
  );
});

it.each([undefined, HOUR_MS])('is none at all under a license that allows no bundles: %s', (askedMs) => {
  expect(() => offlineLifeMs({ licenseId, offlineMaxMs: 0 }, askedMs)).toThrow(
    expect.objectContaining({ code: 'STATE_PRECONDITION' }),
  );
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DEFAULT_RENEW_AFTER_PERCENT,
  LEASE_RENEW_JITTER,
  MAX_RENEW_AFTER_PERCENT,
  MIN_RENEW_AFTER_PERCENT,
} from '#src/base/limits.ts';
import { HOUR_MS } from '#src/base/units.ts';
import { leaseTimes } from '#src/licensing/lease-rules.ts';

const percent = fc.integer({ min: MIN_RENEW_AFTER_PERCENT, max: MAX_RENEW_AFTER_PERCENT });
const duration = fc.integer({ min: 1000, max: 30 * 24 * HOUR_MS });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

/** When a lease of a hundred hours that is cut at 0 is renewed. */
const renewalMs = (renewAfterPercent: number, at: number) =>
  leaseTimes({
    nowMs: 0,
    leaseDurationMs: 100 * HOUR_MS,
    renewAfterPercent,
    allowedUntilMs: null,
    random: at,
  }).renewAtMs;

describe('lease times', () => {
  it('asks for renewal after a third of the life where nothing else is said', () => {
    const renewAfterPercent = DEFAULT_RENEW_AFTER_PERCENT;
    expect(
      leaseTimes({
        ...{ nowMs: 1000, leaseDurationMs: 100 * HOUR_MS, renewAfterPercent },
        ...{ allowedUntilMs: null, random: 0.5 },
      }),
    ).toEqual({ issuedAtMs: 1000, renewAtMs: 1000 + 33 * HOUR_MS, expiresAtMs: 1000 + 100 * HOUR_MS });
  });

  it.each([
    [10, 9, 11],
    [50, 45, 55],
    [60, 56, 64],
    [90, 89, 91],
  ])('spreads renewals after %d %% by a tenth of that or of the rest', (after, first, last) => {
    expect(renewalMs(after, 0) / HOUR_MS).toBeCloseTo(first, 5);
    expect(renewalMs(after, 0.5) / HOUR_MS).toBeCloseTo(after, 5);
    expect(renewalMs(after, 0.999_999_999) / HOUR_MS).toBeCloseTo(last, 5);
  });

  it('never renews earlier where later was asked for', () => {
    fc.assert(
      fc.property(percent, percent, random, (one, other, at) => {
        const [less, more] = [one, other].sort((left, right) => left - right);
        expect(renewalMs(less!, at)).toBeLessThanOrEqual(renewalMs(more!, at));
      }),
    );
  });

  it('never outlives the license, and renews in its part of the life, long before the end', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 45 }),
        duration,
        percent,
        fc.integer({ min: 1, max: 40 * 24 * HOUR_MS }),
        random,
        (nowMs, leaseDurationMs, renewAfterPercent, restMs, at) => {
          const times = leaseTimes({
            ...{ nowMs, leaseDurationMs, renewAfterPercent },
            ...{ allowedUntilMs: nowMs + restMs, random: at },
          });
          const lifeMs = Math.min(leaseDurationMs, restMs);
          expect(times.expiresAtMs).toBe(nowMs + lifeMs);
          expect(times.renewAtMs).toBeGreaterThanOrEqual(nowMs);
          expect(times.renewAtMs).toBeLessThan(times.expiresAtMs);
          expect(Number.isSafeInteger(times.renewAtMs)).toBe(true);
          const part = renewAfterPercent / 100;
          const spreadMs = lifeMs * LEASE_RENEW_JITTER * Math.min(part, 1 - part);
          expect(Math.abs(times.renewAtMs - nowMs - lifeMs * part)).toBeLessThanOrEqual(spreadMs + 1);
        },
      ),
    );
  });
});

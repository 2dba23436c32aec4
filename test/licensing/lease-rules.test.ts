import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { leaseTimes } from '#src/licensing/lease-rules.ts';

const HOUR_MS = 3_600_000;

describe('lease times', () => {
  it('asks for renewal after a third of the life', () => {
    expect(
      leaseTimes({ nowMs: 1000, leaseDurationMs: 24 * HOUR_MS, allowedUntilMs: null, random: 0.5 }),
    ).toEqual({ issuedAtMs: 1000, renewAtMs: 1000 + 8 * HOUR_MS, expiresAtMs: 1000 + 24 * HOUR_MS });
  });

  it('spreads renewals by a tenth to each side', () => {
    const at = (random: number) =>
      leaseTimes({ nowMs: 0, leaseDurationMs: 30 * HOUR_MS, allowedUntilMs: null, random }).renewAtMs;
    expect(at(0)).toBe(9 * HOUR_MS);
    expect(at(0.999_999_999)).toBeGreaterThan(10.99 * HOUR_MS);
    expect(at(0.999_999_999)).toBeLessThan(11 * HOUR_MS);
  });

  it('never outlives the license, and renews before it ends', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 45 }),
        fc.integer({ min: 1000, max: 30 * 24 * HOUR_MS }),
        fc.integer({ min: 1, max: 40 * 24 * HOUR_MS }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (nowMs, leaseDurationMs, restMs, random) => {
          const times = leaseTimes({ nowMs, leaseDurationMs, allowedUntilMs: nowMs + restMs, random });
          expect(times.expiresAtMs).toBe(nowMs + Math.min(leaseDurationMs, restMs));
          expect(times.renewAtMs).toBeGreaterThanOrEqual(nowMs);
          expect(times.renewAtMs).toBeLessThan(times.expiresAtMs);
          expect(Number.isSafeInteger(times.renewAtMs)).toBe(true);
        },
      ),
    );
  });
});

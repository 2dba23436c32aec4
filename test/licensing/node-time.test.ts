import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';
import { clockRollbackMs, nodeTimeMs, raiseMark } from '#src/licensing/node-time.ts';

const NOW_MS = 1_800_000_000_000;
const mark = { serverTimeMs: NOW_MS, bootId: 'boot-1', bootTimeMs: 1000 };

describe('the time of a node', () => {
  test.each([
    [
      'is the wall clock where nothing is known',
      undefined,
      { wallMs: 5, bootId: 'boot-1', bootTimeMs: 0 },
      5,
    ],
    [
      'is the wall clock when that is ahead',
      mark,
      { wallMs: NOW_MS + 9, bootId: 'boot-1', bootTimeMs: 1001 },
      NOW_MS + 9,
    ],
    [
      'goes on while the wall clock was turned back',
      mark,
      { wallMs: 5, bootId: 'boot-1', bootTimeMs: 3000 },
      NOW_MS + 2000,
    ],
    [
      'goes on while the machine sleeps',
      mark,
      { wallMs: 5, bootId: 'boot-1', bootTimeMs: 9_001_000 },
      NOW_MS + 9_000_000,
    ],
    ['stands still over a reboot at least', mark, { wallMs: 5, bootId: 'boot-2', bootTimeMs: 9000 }, NOW_MS],
  ])('%s', (_case, known, reading, expected) => {
    expect(nodeTimeMs(known, reading)).toBe(expected);
  });

  test('never goes back, whatever the clocks and the key server say', () => {
    const step = fc.record({
      wallMs: fc.integer({ min: 0, max: 2 * NOW_MS }),
      passedMs: fc.integer({ min: 0, max: 1e9 }),
      serverTimeMs: fc.option(fc.integer({ min: NOW_MS, max: NOW_MS + 1e9 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        let [known, bootTimeMs, floor] = [mark, mark.bootTimeMs, NOW_MS];
        for (const { wallMs, passedMs, serverTimeMs } of steps) {
          bootTimeMs += passedMs;
          const reading = { wallMs, bootId: 'boot-1', bootTimeMs };
          const time = nodeTimeMs(known, { ...reading, wallMs: 0 });
          expect(time).toBeGreaterThanOrEqual(floor);
          floor = time;
          if (serverTimeMs !== undefined) known = raiseMark(known, serverTimeMs, reading);
        }
      }),
    );
  });
});

describe('a clock', () => {
  const reading = { wallMs: NOW_MS, bootId: 'boot-1', bootTimeMs: 1000 };
  test.each([
    ['that is right', 0, 0],
    ['a little behind', -MAX_CLOCK_SKEW_MS, 0],
    ['that was turned back', -MAX_CLOCK_SKEW_MS - 1, MAX_CLOCK_SKEW_MS + 1],
    ['that was set right after it was ahead', 0, 0],
    ['that is ahead', 9e9, 0],
  ])('%s', (_case, offMs, behindMs) => {
    expect(clockRollbackMs(mark, { ...reading, wallMs: NOW_MS + offMs })).toBe(behindMs);
  });

  test('is judged by the time that the machine slept too, and by the last word before a reboot', () => {
    expect(clockRollbackMs(mark, { ...reading, bootTimeMs: 1000 + 3_600_000 })).toBe(3_600_000);
    expect(clockRollbackMs(mark, { wallMs: NOW_MS - 3_600_000, bootId: 'boot-2', bootTimeMs: 5 })).toBe(
      3_600_000,
    );
    expect(clockRollbackMs(undefined, { ...reading, wallMs: 0 })).toBe(0);
  });
});

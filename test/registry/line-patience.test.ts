import { describe, expect, test } from 'vitest';
import { MIN_TRANSFER_RATE } from '#src/base/limits.ts';
import { createLinePatience } from '#src/registry/line-patience.ts';
import { manualClock } from '../fakes/manual-clock.ts';

const FULL_MS = 60_000;
const STEPS = 1000;

/** How often, of {@link STEPS} times, the line moved before patience was used up. */
function stepsTaken(bytesEachStep: number, lineMs: number, ourMs = 0): number {
  const clock = manualClock();
  let endings = 0;
  const patience = createLinePatience(FULL_MS, clock, () => (endings += 1));
  let steps = 0;
  while (steps < STEPS && endings === 0) {
    patience.wait();
    clock.advance(lineMs);
    patience.moved(bytesEachStep);
    clock.advance(ourMs);
    steps += 1;
  }
  patience.stop();
  return steps;
}

describe('patience with a line', () => {
  test('a byte now and then does not keep it', () => {
    // Each step costs ten seconds and gives back what one byte is worth.
    expect(stepsTaken(1, 10_000)).toBe(7);
  });

  test('the slowest rate that is allowed does, a slower one does not', () => {
    expect(stepsTaken(MIN_TRANSFER_RATE, 1000)).toBe(STEPS);
    expect(stepsTaken(MIN_TRANSFER_RATE / 2, 1000)).toBeLessThan(STEPS);
  });

  test('many bytes at once buy no longer silence', () => {
    const clock = manualClock();
    let endings = 0;
    const patience = createLinePatience(FULL_MS, clock, () => (endings += 1));
    patience.wait();
    patience.moved(1_000_000_000);
    patience.wait();
    clock.advance(FULL_MS + 1000);
    patience.moved(1);
    expect(endings).toBe(1);
  });

  test('our own turn costs nothing', () => {
    expect(stepsTaken(1, 0, FULL_MS)).toBe(STEPS);
  });
});

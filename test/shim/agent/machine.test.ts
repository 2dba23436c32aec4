import { expect, test } from 'vitest';
import { bootClock } from '../../../shim/agent/machine.ts';

test('time asleep counts, and a moment is read once', () => {
  let [awakeMs, uptimeSeconds, readings] = [5000, 100, 0];
  const clock = bootClock(
    () => {
      readings += 1;
      return uptimeSeconds;
    },
    () => awakeMs,
  );
  for (let call = 0; call < 30; call += 1) expect(clock.monotonicMs()).toBe(100_000);
  expect(readings).toBe(1);
  awakeMs += 1;
  uptimeSeconds += 3600;
  expect(clock.monotonicMs()).toBe(3_700_000);
});

test('the machine says how long it has been up', () => {
  const clock = bootClock();
  const before = clock.monotonicMs();
  expect(before).toBeGreaterThan(0);
  expect(clock.monotonicMs()).toBeGreaterThanOrEqual(before);
});

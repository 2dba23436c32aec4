/** A clock that moves only when it is told to. */
import type { Clock } from '#src/base/clock.ts';

export interface ManualClock extends Clock {
  wallMs: number;
  steadyMs: number;
  /** Lets time pass on both clocks. */
  advance(durationMs: number): void;
}

export function manualClock(wallMs = 1_800_000_000_000): ManualClock {
  return {
    wallMs,
    steadyMs: 1000,
    nowMs() {
      return this.wallMs;
    },
    monotonicMs() {
      return this.steadyMs;
    },
    advance(durationMs) {
      this.wallMs += durationMs;
      this.steadyMs += durationMs;
    },
  };
}

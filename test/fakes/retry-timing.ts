/** Retries without waiting; what would have been waited is kept. */
import type { RetryTiming } from '#src/registry/retry.ts';

export interface RecordedTiming extends RetryTiming {
  readonly sleptMs: number[];
  /** Moves the wall clock. */
  advance(durationMs: number): void;
}

export function recordedTiming(): RecordedTiming {
  let nowMs = 1_800_000_000_000;
  const sleptMs: number[] = [];
  return {
    sleptMs,
    clock: { nowMs: () => nowMs, monotonicMs: () => nowMs },
    random: () => 0.5,
    sleep: (durationMs) => {
      sleptMs.push(durationMs);
      return Promise.resolve();
    },
    advance: (durationMs) => {
      nowMs += durationMs;
    },
  };
}

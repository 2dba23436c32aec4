/** Spans of time as people write them. */
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from './units.ts';

const UNITS = [
  ['d', DAY_MS],
  ['h', HOUR_MS],
  ['m', MINUTE_MS],
  ['s', SECOND_MS],
] as const;

/** `24h`, `90s`: the largest unit that fits without a rest. */
export function formatDuration(durationMs: number): string {
  const fitting = UNITS.find(([, unitMs]) => durationMs % unitMs === 0);
  return fitting === undefined ? `${durationMs}ms` : `${durationMs / fitting[1]}${fitting[0]}`;
}

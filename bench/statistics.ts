/** Medians and ratios; single figures of a shared machine mean little, pairs of one run do. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

export interface Contest {
  /** Milliseconds of each round. */
  readonly ours: readonly number[];
  readonly yardstick: readonly number[];
}

/**
 * Runs two tasks in turns, after one round of each that does not count.
 * @param rounds pairs that count
 */
export async function interleave(
  rounds: number,
  ours: () => Promise<number>,
  yardstick: () => Promise<number>,
): Promise<Contest> {
  await yardstick();
  await ours();
  const result = { ours: [] as number[], yardstick: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    result.yardstick.push(await yardstick());
    result.ours.push(await ours());
  }
  return result;
}

/** Milliseconds a task takes. */
export async function timeMs(task: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await task();
  return performance.now() - startedMs;
}

/** Median of the ratios of each pair: steadier than the ratio of medians. */
export function medianRatio({ ours, yardstick }: Contest): number {
  return median(ours.map((value, index) => value / (yardstick[index] ?? Number.NaN)));
}

/** One line: what, both medians, their ratio and the goal. */
export function reportContest(name: string, contest: Contest, yardstick: string, goal: string): void {
  const ratio = medianRatio(contest).toFixed(2);
  process.stdout.write(
    `${name}: ${median(contest.ours).toFixed(0)} ms, ${yardstick} ${median(contest.yardstick).toFixed(0)} ms, ratio ${ratio} (goal ${goal})\n`,
  );
}

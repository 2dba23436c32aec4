/**
 * Several layers at a time. Small ones spend their time waiting for the disk; of large ones, those that are unpacked
 * wait for one thread of the pool each. What is spread over threads anyway gains nothing from company.
 */
import { toLatchkeyError } from '#src/base/errors.ts';
import { LARGE_LAYER_BYTES } from '#src/base/limits.ts';
import { HashThread } from './hash-thread.ts';

/** More gain nothing (measured); the pool has four threads. */
const SMALL_LAYERS_AT_A_TIME = 8;

export interface LayerWork {
  readonly sizeBytes: number;
  /**
   * @param signal aborts when another layer has failed, too
   * @param thread gives the lane's hash thread
   */
  readonly run: (signal: AbortSignal, thread: () => HashThread) => Promise<void>;
}

/**
 * Runs the work, small layers first, then the largest; the first failure stops it all.
 * @param largeAtATime how many large layers side by side
 * @throws what the first failure raised, when nothing runs any more
 */
export async function runLayers(
  works: readonly LayerWork[],
  largeAtATime: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const isLarge = (work: LayerWork): boolean => work.sizeBytes >= LARGE_LAYER_BYTES;
  await runLanes(
    works.filter((work) => !isLarge(work)),
    SMALL_LAYERS_AT_A_TIME,
    signal,
  );
  // The longest first: begun last, it would keep one core waiting for the other.
  const large = works.filter(isLarge).sort((one, other) => other.sizeBytes - one.sizeBytes);
  await runLanes(large, largeAtATime, signal);
}

async function runLanes(
  works: readonly LayerWork[],
  laneCount: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const failed = new AbortController();
  const either = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  const errors: unknown[] = [];
  const waiting = works.values();
  const lane = async (): Promise<void> => {
    let thread: HashThread | undefined;
    try {
      // All lanes take from the same iterator.
      for (const work of waiting) {
        if (errors.length > 0) return;
        await work.run(either, () => (thread ??= new HashThread()));
      }
    } catch (error) {
      // What the others then fail with is a consequence.
      errors.push(error);
      failed.abort(toLatchkeyError(error));
    } finally {
      await thread?.close();
    }
  };
  await Promise.all(Array.from({ length: Math.min(laneCount, works.length) }, lane));
  if (errors.length > 0) throw errors[0];
}

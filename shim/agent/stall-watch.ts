/**
 * Ends layers that stand still. containerd sets no limit to one whose bytes neither come nor go, and a worker thread that
 * waits for a pipe cannot be interrupted; so the main thread looks at what both share, and when nothing has moved for too
 * long it leaves word there and moves the pipes itself.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { LAYER_STALL_TIMEOUT_MS, PIPE_CHUNK_BYTES } from '#src/base/limits.ts';
import { type ProgressCells, giveUp, movesOf } from './layer-progress.ts';
import type { OpenFile, ProcessorFiles } from './processor-files.ts';

/** Within one timeout; a stall is noticed that much later at most. */
const LOOKS = 4;
const NUDGE_EVERY_MS = 10;

/**
 * Gives a layer up that stands still.
 * @param isAtWork false while the worker waits for nothing but us
 * @returns what ends the watch; to be called before the pipes are closed
 */
export function watchProgress(
  cells: ProgressCells,
  { input, output }: Pick<ProcessorFiles, 'input' | 'output'>,
  isAtWork: () => boolean,
  timeoutMs = LAYER_STALL_TIMEOUT_MS,
): () => Promise<void> {
  let isOver = false;
  let nudging: Promise<void> = Promise.resolve();
  let [seen, looksAlike] = [-1, 0];
  const timer = setInterval(() => {
    const moves = movesOf(cells);
    looksAlike = moves === seen && isAtWork() ? looksAlike + 1 : 0;
    seen = moves;
    if (looksAlike < LOOKS) return;
    clearInterval(timer);
    giveUp(cells);
    nudging = nudge(input, output, () => isOver);
  }, timeoutMs / LOOKS);
  timer.unref();
  return async () => {
    isOver = true;
    clearInterval(timer);
    await nudging;
  };
}

/** One byte too many ends a read, and taking some away ends a write. What is in the pipes is of no use any more. */
async function nudge(input: OpenFile, output: OpenFile, isOver: () => boolean): Promise<void> {
  const ends: FileHandle[] = [];
  try {
    const feeding = await openAgain(input, constants.O_WRONLY);
    ends.push(feeding);
    const draining = await openAgain(output, constants.O_RDONLY);
    ends.push(draining);
    const bin = Buffer.alloc(PIPE_CHUNK_BYTES);
    while (!isOver()) {
      await feeding.write(Buffer.alloc(1)).catch(() => undefined);
      await draining.read(bin).catch(() => undefined);
      await sleep(NUDGE_EVERY_MS);
    }
    bin.fill(0);
  } catch {
    // A file or a socket instead of a pipe: nothing stands still there.
  } finally {
    await Promise.allSettled(ends.map((end) => end.close()));
  }
}

/** The other end of a pipe, without waiting for it. */
function openAgain({ fd }: OpenFile, access: number): Promise<FileHandle> {
  return open(`/proc/self/fd/${fd}`, access | constants.O_NONBLOCK);
}

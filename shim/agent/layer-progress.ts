/** Whether a layer moves: a counter in memory that its worker thread and the main thread share, and a word to give up. */
import { LatchkeyError } from '#src/base/errors.ts';

const MOVES = 0;
const IS_GIVEN_UP = 1;

/** What both threads share about one layer. */
export type ProgressCells = Int32Array<SharedArrayBuffer>;

export function newProgress(): ProgressCells {
  return new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
}

/**
 * The worker's part, after each transfer and before each wait.
 * @throws LatchkeyError NET_TIMEOUT when the layer has been given up
 */
export function noteProgress(cells: ProgressCells): void {
  Atomics.add(cells, MOVES, 1);
  requireNotGivenUp(cells);
}

/** @throws LatchkeyError NET_TIMEOUT when the layer has been given up */
export function requireNotGivenUp(cells: ProgressCells): void {
  if (Atomics.load(cells, IS_GIVEN_UP) === 0) return;
  throw new LatchkeyError('NET_TIMEOUT', 'containerd neither sent nor took any of the layer for too long', {
    hint: 'pull the image or start the container again',
  });
}

/** How often the layer has moved. */
export function movesOf(cells: ProgressCells): number {
  return Atomics.load(cells, MOVES);
}

/** Tells the worker to give the layer up; it hears that at its next move. */
export function giveUp(cells: ProgressCells): void {
  Atomics.store(cells, IS_GIVEN_UP, 1);
}

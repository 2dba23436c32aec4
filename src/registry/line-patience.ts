/** How long the other end of a transfer may be silent: silence uses patience up, bytes give it back, so a drip ends too. */
import type { Clock } from '#src/base/clock.ts';
import { MIN_TRANSFER_RATE } from '#src/base/limits.ts';

export interface LinePatience {
  /** From now on the other end is waited for. */
  wait(): void;
  /** It gave or took so many bytes; until the next wait it is our turn, which may take any time. */
  moved(sizeBytes: number): void;
  stop(): void;
}

/**
 * Patience with one connection, full at its start.
 * @param onEnd called when it is used up
 */
export function createLinePatience(fullMs: number, clock: Clock, onEnd: () => void): LinePatience {
  let leftMs = fullMs;
  let waitingSinceMs = 0;
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => clearTimeout(timer);
  return {
    wait() {
      stop();
      waitingSinceMs = clock.monotonicMs();
      timer = setTimeout(onEnd, leftMs);
    },
    moved(sizeBytes) {
      stop();
      const silentMs = clock.monotonicMs() - waitingSinceMs;
      leftMs = Math.min(fullMs, leftMs - silentMs + (sizeBytes * 1000) / MIN_TRANSFER_RATE);
      // A timer is late when there is much to do, and would start anew with each byte.
      if (leftMs <= 0) onEnd();
    },
    stop,
  };
}

/** When plaintext under a stock snapshotter is looked for: when containerd has told of a change, and once it has settled. */
import type { ContainerdConnection } from '../containerd/connection.ts';
import { watchEvents } from '../containerd/event-watch.ts';
import { SETTLE_MS } from './overlay-sweeper.ts';

/** After each of these something may have become free, or have come. */
const TOPICS = ['/containers/delete', '/tasks/exit', '/snapshot/remove', '/snapshot/commit'];
/** Events come in bursts: a container's end is five of them. */
const BURST_MS = 200;

/**
 * Calls for a sweep at once, and then after events.
 * @returns ends it
 */
export function triggerSweeps(containerd: ContainerdConnection, sweep: () => void): () => void {
  let soon: NodeJS.Timeout | undefined;
  let settled = setTimeout(sweep, SETTLE_MS + BURST_MS);
  const stopWatching = watchEvents(containerd, TOPICS, () => {
    // The first of a burst counts, or a busy node would never be swept.
    soon ??= setTimeout(() => {
      soon = undefined;
      sweep();
    }, BURST_MS);
    clearTimeout(settled);
    settled = setTimeout(sweep, SETTLE_MS + BURST_MS);
  });
  sweep();
  return () => {
    stopWatching();
    clearTimeout(soon);
    clearTimeout(settled);
  };
}

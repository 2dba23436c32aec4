/** Listens to what happens in a containerd, in all its namespaces, and comes back when containerd was away. */
import type { ContainerdConnection } from './connection.ts';

const RECONNECT_AFTER_MS = 1000;

/**
 * Calls back for each event of the topics. What happens while containerd is away is not told.
 * @returns ends the watch
 */
export function watchEvents(
  containerd: ContainerdConnection,
  topics: readonly string[],
  onEvent: () => void,
): () => void {
  const { events } = containerd.clients;
  const filters = topics.map((topic) => `topic=="${topic}"`);
  let isStopped = false;
  let timer: NodeJS.Timeout | undefined;
  let stream: ReturnType<typeof events.subscribe> | undefined;
  const connect = (): void => {
    stream = events.subscribe({ filters });
    stream.on('data', onEvent);
    // 'error' is followed by 'close', which reconnects.
    stream.on('error', () => undefined);
    stream.once('close', () => {
      if (!isStopped) timer = setTimeout(connect, RECONNECT_AFTER_MS);
    });
  };
  connect();
  return () => {
    isStopped = true;
    clearTimeout(timer);
    stream?.cancel();
  };
}

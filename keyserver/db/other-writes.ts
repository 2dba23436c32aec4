/** A store that writes in another way, and else is the same. */
import type { Store } from './store.ts';

export function withWrites(store: Store, write: Store['write']): Store {
  return {
    read: store.read,
    reserve: store.reserve,
    write,
    duty: (name) => store.duty(name),
    snapshot: (work) => store.snapshot(work),
    announce: (nodeIds) => {
      store.announce(nodeIds);
    },
    onAnnounced: (listener) => {
      store.onAnnounced(listener);
    },
    close: () => store.close(),
  };
}

/**
 * Bounds the connections of one node, so that none takes the places of the others. The oldest goes: an agent whose old
 * connections hang without its knowledge always gets a new one.
 */
import type { TLSSocket } from 'node:tls';
import { readNodeUri } from '../custody/node-uri.ts';
import { MAX_CONNECTIONS_PER_NODE } from '../limits.ts';

export class NodeConnections {
  /** By node, the oldest first. */
  readonly #sockets = new Map<string, Set<TLSSocket>>();

  /** Counts an established connection until it closes; ends the oldest of its node when there are too many. */
  add(socket: TLSSocket): void {
    const node = readNodeUri(socket.getPeerX509Certificate()?.subjectAltName);
    // Every call of it is refused.
    if (node === null) return;
    const { nodeId } = node;
    const own = this.#sockets.get(nodeId) ?? new Set();
    this.#sockets.set(nodeId, own);
    own.add(socket);
    const forget = (gone: TLSSocket): void => {
      own.delete(gone);
      if (own.size === 0 && this.#sockets.get(nodeId) === own) this.#sockets.delete(nodeId);
    };
    socket.once('close', () => {
      forget(socket);
    });
    const [oldest] = own;
    if (own.size <= MAX_CONNECTIONS_PER_NODE || oldest === undefined) return;
    forget(oldest);
    oldest.destroy();
  }
}

/** Connections below every protocol, for what a listener does with those who do not keep to one. */
import { type Socket, connect } from 'node:net';

export interface RawConnection {
  readonly socket: Socket;
  /** Resolves when the other end, or this one, has closed it. */
  readonly closed: Promise<void>;
}

/** @param localPort of this end; default = any free one */
export function connectRaw(port: number, localPort?: number): Promise<RawConnection> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, ...(localPort === undefined ? {} : { localPort }) });
    const closed = new Promise<void>((ended) => {
      socket.once('close', () => {
        ended();
      });
    });
    socket.on('error', reject);
    socket.resume();
    socket.once('connect', () => {
      resolve({ socket, closed });
    });
  });
}

export function portOf(url: string): number {
  return Number(new URL(url).port);
}

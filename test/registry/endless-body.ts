/** Bodies that do not end by themselves soon, or at all. */
import type { ServerResponse } from 'node:http';

const CHUNK_BYTES = 65_536;
const DRIP_INTERVAL_MS = 10;

export interface Flood {
  readonly sentBytes: number;
}

/** Writes spaces as fast as they are taken, until the reader goes away or has that many. */
export function flood(response: ServerResponse, endBytes: number): Flood {
  const state = { sentBytes: 0 };
  const more = (): void => {
    while (!response.destroyed && state.sentBytes < endBytes) {
      state.sentBytes += CHUNK_BYTES;
      if (!response.write(Buffer.alloc(CHUNK_BYTES, ' '))) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
  return state;
}

/** Gives a byte now and then until the connection is closed. */
export function drip(response: ServerResponse, writeByte: () => void): void {
  const timer = setInterval(writeByte, DRIP_INTERVAL_MS);
  response.once('close', () => clearInterval(timer));
}

/** A port of the loopback that nobody listens on now, and that no outgoing connection is given. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { systemErrorCode } from '#src/base/errors.ts';

/**
 * Linux takes the ports of outgoing connections from 32768 on. One of those could be taken while a server that comes
 * back on it is down: even by a client that asks for it and is connected with itself.
 */
const FIRST_PORT = 20_000;
const FIRST_EPHEMERAL_PORT = 32_768;
/** Each process of a test run has its own, so that no two find the same one free. */
const PORTS_PER_WORKER = 1000;

const state = { next: randomInt(PORTS_PER_WORKER) };

export async function freePort(): Promise<number> {
  const slices = Math.floor((FIRST_EPHEMERAL_PORT - FIRST_PORT) / PORTS_PER_WORKER);
  const slice = Number(process.env['VITEST_POOL_ID'] ?? 0) % slices;
  for (;;) {
    const port = FIRST_PORT + slice * PORTS_PER_WORKER + (state.next % PORTS_PER_WORKER);
    state.next += 1;
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => {
      if (systemErrorCode(error) === 'EADDRINUSE') resolve(false);
      else reject(error);
    });
    server.listen(port, '127.0.0.1', () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

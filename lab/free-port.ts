/** A port of the loopback that nobody listens on now, and that no outgoing connection is given. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { systemErrorCode } from '#src/base/errors.ts';

/**
 * Linux takes the ports of outgoing connections from 32768 on. One of those could be taken while a server that comes
 * back on it is down: even by a client that asks for it and is connected with itself.
 */
const LOWEST_PORT = 20_000;
const FIRST_EPHEMERAL_PORT = 32_768;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(LOWEST_PORT, FIRST_EPHEMERAL_PORT);
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

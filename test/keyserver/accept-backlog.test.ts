/** Nodes that come back all at once, while the key server is busy with something else. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type Socket, connect } from 'node:net';
import { afterAll, beforeAll, it } from 'vitest';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

/** More than Node.js has the kernel keep unless it is told otherwise (511). */
const CONNECTIONS = 1000;

const kernelKeeps = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));
const sockets: Socket[] = [];
let server: TestKeyServer;

beforeAll(async () => {
  server = await startKeyServer();
});
afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  // A test that ran out of time has not said so.
  process.kill(server.pid, 'SIGCONT');
  await server.dispose();
});

it.skipIf(kernelKeeps < CONNECTIONS)(
  `keeps the connections of ${CONNECTIONS} nodes until it gets to them, and serves the next (needs net.core.somaxconn)`,
  async () => {
    const [host, port] = server.nodeAddress.split(':');
    process.kill(server.pid, 'SIGSTOP');
    try {
      const connected = Array.from({ length: CONNECTIONS }, () => {
        const socket = connect(Number(port), host);
        sockets.push(socket);
        return once(socket, 'connect');
      });
      await Promise.all(connected);
    } finally {
      process.kill(server.pid, 'SIGCONT');
    }
    const sold = await createSoldProduct(server);
    const node = await activateNode(server, (await sold.sell()).licenseKey);
    await node.acquire(sold.image);
    node.close();
  },
);

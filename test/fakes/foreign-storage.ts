/** Storage of somebody else, where a registry may send us: serves one content, takes uploads, keeps the headers it saw. */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readBody } from './registry.ts';

export interface ForeignStorage {
  readonly host: string;
  readonly seen: IncomingMessage['headers'][];
  readonly received: Buffer[];
  stop(): void;
}

export async function startForeignStorage(content: Uint8Array): Promise<ForeignStorage> {
  const seen: IncomingMessage['headers'][] = [];
  const received: Buffer[] = [];
  const server = createServer((incoming, response) => {
    seen.push(incoming.headers);
    if (incoming.method === 'GET') {
      response.writeHead(200).end(content);
      return;
    }
    void readBody(incoming).then((bytes) => {
      received.push(bytes);
      response.writeHead(incoming.method === 'PUT' ? 201 : 202, { location: '/elsewhere' }).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    received,
    stop: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

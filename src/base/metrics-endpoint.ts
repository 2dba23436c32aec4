/** Where Prometheus reads: GET /metrics and /healthz over HTTP, and nothing else. */
import { type Server, createServer } from 'node:http';
import { LatchkeyError } from './errors.ts';
import { PROMETHEUS_CONTENT_TYPE } from './prometheus-text.ts';

/** A scrape has a few hundred bytes of headers. */
const MAX_HEADER_BYTES = 8192;
const REQUEST_TIMEOUT_MS = 5000;
/** Prometheus keeps one; the rest are hands and mistakes. */
const MAX_CONNECTIONS = 16;

/**
 * Serves the metrics.
 * @param address path of a unix socket, or `host:port`
 * @param option that names the address, for the message
 * @throws LatchkeyError CONFIG_INVALID when the address cannot be used
 */
export async function serveMetrics(
  address: string,
  option: string,
  text: () => Promise<string>,
): Promise<Server> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
    },
    (request, response) => {
      const answer = (status: number, type: string, body: string): void => {
        response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
        response.end(request.method === 'HEAD' ? undefined : body);
      };
      const plain = 'text/plain; charset=utf-8';
      // A body is not for us.
      request.resume();
      if (request.method !== 'GET') answer(405, plain, 'only GET\n');
      else if (request.url === '/healthz') answer(200, plain, 'ok\n');
      else if (request.url !== '/metrics') answer(404, plain, 'only /metrics and /healthz\n');
      else {
        text().then(
          (metrics) => {
            answer(200, PROMETHEUS_CONTENT_TYPE, metrics);
          },
          () => {
            answer(500, plain, 'the metrics cannot be read now\n');
          },
        );
      }
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const hint = `give ${option} an address of this machine and a free port`;
      reject(new LatchkeyError('CONFIG_INVALID', `cannot serve metrics on ${address}`, { hint, cause }));
    });
    if (address.startsWith('/')) server.listen(address, resolve);
    else {
      const colon = address.lastIndexOf(':');
      const host = address.slice(0, colon).replaceAll(/[[\]]/g, '');
      server.listen({ host, port: Number(address.slice(colon + 1)) }, resolve);
    }
  });
  return server;
}

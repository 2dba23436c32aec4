/** What the admin API takes from whoever can reach it, on real sockets. */
import fastify from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adminServerOptions } from '../../keyserver/http/admin-server-options.ts';
import { MAX_ADMIN_CONNECTIONS, MAX_ADMIN_HEADER_BYTES } from '../../keyserver/limits.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { connectRaw, portOf } from '../fakes/raw-connection.ts';

let server: TestKeyServer;
beforeAll(async () => {
  server = await startKeyServer();
});
afterAll(() => server.dispose());

describe('the admin API', () => {
  const post = (body: string, headers: Record<string, string> = {}) =>
    fetch(`${server.adminUrl}/v1/products`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${server.adminToken}`,
        'content-type': 'application/json',
        ...headers,
      },
      body,
    });

  it('reads no JSON that is deep, ambiguous or long, and nothing but JSON', async () => {
    const deep = '{"name":'.repeat(40) + '1' + '}'.repeat(40);
    const refusals: [string, number, string][] = [
      [deep, 400, 'nested deeper than 32 levels'],
      ['{"code":"a","name":"x","name":"y"}', 400, 'the key \\"name\\" twice'],
      ['{"__proto__":{"code":"a"},"name":"x"}', 400, '__proto__'],
      [`[${'1,'.repeat(110_000)}1]`, 413, 'holds more than'],
    ];
    for (const [body, status, text] of refusals) {
      const response = await post(body);
      expect(response.status).toBe(status);
      expect(await response.text()).toContain(text);
    }
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/merge-patch+json']) {
      const response = await post('{}', { 'content-type': type });
      expect(response.status, type).toBe(415);
      expect(response.headers.get('content-type'), type).toContain('application/problem+json');
      expect(await response.json(), type).toMatchObject({
        ...{
          status: 415,
          code: 'USAGE_INVALID',
          hint: expect.stringContaining('application/json') as string,
        },
      });
    }
  });

  it('takes headers up to a size', async () => {
    const response = await post('{}', { 'x-long': 'x'.repeat(MAX_ADMIN_HEADER_BYTES) });
    expect(response.status).toBe(431);
  });

  it('cuts off who sends headers forever', async () => {
    const { socket, closed } = await connectRaw(portOf(server.adminUrl));
    socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n');
    const drip = setInterval(() => socket.write('x-more: 1\r\n'), 500);
    await closed;
    clearInterval(drip);
  });

  it('and who sends a body forever', async () => {
    const app = fastify(adminServerOptions(null, { headersMs: 200, requestMs: 400, checkEveryMs: 50 }));
    app.post('/', () => 'done');
    const { socket, closed } = await connectRaw(portOf(await app.listen({ host: '127.0.0.1', port: 0 })));
    socket.write(
      'POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n',
    );
    const drip = setInterval(() => socket.write(' '), 50);
    await closed;
    clearInterval(drip);
    await app.close();
  });

  it('takes so many connections and no more', async () => {
    const port = portOf(server.adminUrl);
    let refused = 0;
    const open = await Promise.all(
      Array.from({ length: MAX_ADMIN_CONNECTIONS + 20 }, async () => {
        const connection = await connectRaw(port);
        void connection.closed.then(() => (refused += 1));
        return connection;
      }),
    );
    await expect.poll(() => refused).toBeGreaterThanOrEqual(20);
    expect(refused).toBeLessThan(MAX_ADMIN_CONNECTIONS);
    for (const { socket } of open) socket.destroy();
    await expect
      .poll(() =>
        post('{}').then(
          ({ status }) => status,
          () => 0,
        ),
      )
      .toBe(400);
  });
});

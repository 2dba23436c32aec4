/** Requests that are repeated with their Idempotency-Key do their work once, whatever happens in between. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { AdminClient } from '../../cli/admin-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type SoldProduct, adminClient, createSoldProduct } from '../fakes/sold-product.ts';

const createdSchema = z.object({ license: z.object({ id: z.string() }), licenseKey: z.string() });

let dataDirectory: string;
let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'latchkey-idempotency-'));
  server = await startKeyServer({ dataDirectory });
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  await server.stop();
  await rm(dataDirectory, { recursive: true, force: true });
});

function post(path: string, key: string, body: unknown, token = server.adminToken): Promise<Response> {
  return fetch(`${server.adminUrl}/v1/${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'idempotency-key': key,
    },
    body: JSON.stringify(body),
  });
}

async function createLicense(key: string, more: object = {}) {
  const response = await post('licenses', key, {
    customer: sold.customerId,
    product: sold.productCode,
    ...more,
  });
  expect(response.status).toBe(201);
  return createdSchema.parse(await response.json());
}

async function licenseCount(): Promise<number> {
  return (await adminClient(server).licenses()).length;
}

describe('a create with an Idempotency-Key', () => {
  it('gives its answer again, with the license key, and creates nothing more', async () => {
    const key = randomUUID();
    const before = await licenseCount();
    const first = await createLicense(key);
    // What the checks make the same is the same request.
    expect(await createLicense(key, { product: ` ${sold.productCode} ` })).toEqual(first);
    expect(await licenseCount()).toBe(before + 1);
  });

  it('creates once when many ask at the same time', async () => {
    const key = randomUUID();
    const before = await licenseCount();
    const answers = await Promise.all(Array.from({ length: 20 }, () => createLicense(key)));
    expect(new Set(answers.map(({ licenseKey }) => licenseKey)).size).toBe(1);
    expect(await licenseCount()).toBe(before + 1);
  });

  it('gives its answer again after the server was killed', async () => {
    const key = randomUUID();
    const first = await createLicense(key);
    await server.kill();
    server = await startKeyServer({ dataDirectory });
    expect(await createLicense(key)).toEqual(first);
  });

  it('leaves neither the license key nor the Idempotency-Key in the data', async () => {
    const key = randomUUID();
    const { licenseKey } = await createLicense(key);
    const names = await readdir(dataDirectory, { recursive: true, withFileTypes: true });
    for (const entry of names.filter((each) => each.isFile())) {
      const bytes = await readFile(join(entry.parentPath, entry.name));
      expect(bytes.includes(licenseKey), entry.name).toBe(false);
      expect(bytes.includes(key), entry.name).toBe(false);
    }
  });

  it.each([
    ['another body', 'customers', { name: 'B' }],
    ['another route', 'api-tokens', { name: 'A', permissionSet: 'release' }],
  ])('is refused for %s', async (_name, path, body) => {
    const key = randomUUID();
    expect((await post('customers', key, { name: 'A' })).status).toBe(201);
    const response = await post(path, key, body);
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({ code: 'STATE_CONFLICT' });
  });

  it('shares nothing with the same key of another token', async () => {
    const key = randomUUID();
    const { token } = await adminClient(server).createToken({ name: 'second', permissionSet: 'admin' });
    const mine = z
      .object({ id: z.string() })
      .parse(await (await post('customers', key, { name: 'A' })).json());
    const theirs = await post('customers', key, { name: 'A' }, token);
    expect(z.object({ id: z.string() }).parse(await theirs.json()).id).not.toBe(mine.id);
  });

  it('may be repeated after a failure, which is not kept', async () => {
    const key = randomUUID();
    const input = { code: 'later', name: 'Later' };
    const license = { customer: sold.customerId, product: 'later' };
    expect((await post('licenses', key, license)).status).toBe(404);
    await adminClient(server).createProduct(input);
    expect((await post('licenses', key, license)).status).toBe(201);
  });

  it.each(['x'.repeat(256), 'a b'])('refuses the key %j', async (key) => {
    const response = await post('customers', key, { name: 'A' });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'USAGE_INVALID' });
  });
});

it('the command line creates once when the answer is lost', async () => {
  let lost = 0;
  // Hands on the request, and breaks the line before the answer, once.
  const front = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      void (async () => {
        const answer = await fetch(`${server.adminUrl}${request.url ?? ''}`, {
          method: request.method ?? 'GET',
          headers: {
            authorization: request.headers.authorization ?? '',
            'content-type': 'application/json',
            'idempotency-key': String(request.headers['idempotency-key']),
          },
          body: Buffer.concat(chunks),
        });
        if (lost === 0) {
          lost += 1;
          request.socket.destroy();
        } else {
          response.writeHead(answer.status).end(await answer.text());
        }
      })();
    });
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  const { port } = front.address() as AddressInfo;
  const client = new AdminClient({ serverUrl: `http://127.0.0.1:${port}`, token: server.adminToken });
  const before = await licenseCount();
  const { license } = await client.createLicense({ customer: sold.customerId, product: sold.productCode });
  await new Promise((resolve) => front.close(resolve));
  expect(lost).toBe(1);
  expect(await licenseCount()).toBe(before + 1);
  expect(await adminClient(server).license(license.id)).toMatchObject({ id: license.id });
});

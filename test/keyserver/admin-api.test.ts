import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AdminClient } from '../../cli/admin-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import {
  type SoldProduct,
  adminClient,
  auditLog,
  createSoldProduct,
  randomDigest,
  sealImageKey,
} from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let client: AdminClient;

beforeAll(async () => {
  server = await startKeyServer({ args: ['--organization', 'Acme', '--contact', 'isv@acme.example'] });
  sold = await createSoldProduct(server);
  ({ client } = sold);
});

afterAll(() => server.dispose());

const authorized = () => ({
  authorization: `Bearer ${server.adminToken}`,
  'content-type': 'application/json',
});

describe('the admin API', () => {
  it('describes itself as OpenAPI 3.1 without a token', async () => {
    const document = (await (await fetch(`${server.adminUrl}/v1/openapi.json`)).json()) as {
      openapi: string;
      paths: Record<string, unknown>;
    };
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining(['/v1/licenses', '/v1/licenses/{id}:revoke', '/v1/audit-events']),
    );
  });

  it('says that it is healthy', async () => {
    expect((await fetch(`${server.adminUrl}/healthz`)).status).toBe(200);
  });

  it.each([undefined, 'Bearer nonsense', 'Basic YTpi'])('asks for a token (%s)', async (authorization) => {
    const response = await fetch(`${server.adminUrl}/v1/licenses`, {
      headers: authorization === undefined ? {} : { authorization },
    });
    expect([response.status, response.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    expect(await response.json()).toMatchObject({ code: 'AUTH_REQUIRED', status: 401, type: 'about:blank' });
  });

  it.each([
    ['a code that is not one', 'products', { code: 'Bad Code', name: 'x' }],
    ['an unknown field', 'products', { code: 'x', name: 'x', admin: true }],
    ['a lease that is too long', 'licenses', { customer: 'x', product: 'x', leaseDurationMs: 1e12 }],
    ['something that is not JSON', 'products', '{'],
  ])('refuses %s', async (_name, path, body) => {
    const response = await fetch(`${server.adminUrl}/v1/${path}`, {
      method: 'POST',
      headers: authorized(),
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'USAGE_INVALID' });
  });

  it('refuses a body beyond the limit', async () => {
    const response = await fetch(`${server.adminUrl}/v1/products`, {
      method: 'POST',
      headers: authorized(),
      body: JSON.stringify({ code: 'x', name: 'x'.repeat(300_000) }),
    });
    expect(response.status).toBe(413);
  });

  it('shows a license key once and keeps neither key nor digest in answers', async () => {
    const { license, licenseKey } = await sold.sell({ plan: 'gold' });
    expect(license).toMatchObject({
      plan: 'gold',
      keyLast4: licenseKey.slice(-4),
      maxNodes: 3,
      onRevoke: 'deny-start',
    });
    const raw = await (await fetch(`${server.adminUrl}/v1/licenses`, { headers: authorized() })).text();
    expect(raw).toContain(license.id);
    expect(raw).not.toContain(licenseKey);
    expect(raw).not.toMatch(/digest/iu);
  });

  it('names what is missing', async () => {
    await expect(
      client.createLicense({ customer: 'nobody', product: sold.productCode }),
    ).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
      message: expect.stringContaining('nobody') as string,
    });
    await expect(
      client.createLicense({ customer: sold.customerId, product: 'nothing' }),
    ).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
    });
    await expect(client.changeLicense('lic_x', 'revoke')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
    await expect(client.changeNode('node_x', 'ban')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });

  it('finds customers by id, external id and name, but not by an ambiguous name', async () => {
    const one = await client.createCustomer({ name: 'Twin', externalId: 'twin-1' });
    for (const reference of [one.id, 'twin-1', 'Twin']) {
      const { license } = await client.createLicense({ customer: reference, product: sold.productCode });
      expect(license.customerId).toBe(one.id);
    }
    await client.createCustomer({ name: 'Twin' });
    await expect(client.createLicense({ customer: 'Twin', product: sold.productCode })).rejects.toMatchObject(
      {
        code: 'STATE_CONFLICT',
      },
    );
    await expect(client.createCustomer({ name: 'x', externalId: 'twin-1' })).rejects.toMatchObject({
      code: 'STATE_CONFLICT',
    });
  });

  it('counts every change and repeats none', async () => {
    const { license } = await sold.sell();
    const { revision } = await client.organization();
    const suspended = await client.changeLicense(license.id, 'suspend', 'unpaid');
    expect(suspended).toMatchObject({
      state: 'SUSPENDED',
      reason: 'unpaid',
      epoch: 2,
      revision: revision + 1,
    });
    expect(await client.changeLicense(license.id, 'suspend')).toEqual(suspended);
    expect((await client.organization()).revision).toBe(revision + 1);
  });

  it('lists in pages', async () => {
    const get = async (query: string) =>
      (await (await fetch(`${server.adminUrl}/v1/customers${query}`, { headers: authorized() })).json()) as {
        items: { id: string }[];
        nextAfter: string | null;
      };
    for (let index = 0; index < 3; index += 1) await client.createCustomer({ name: `Page ${index}` });
    const all = await get('');
    const ids: string[] = [];
    for (let after: string | null = ''; after !== null;) {
      const page: { items: { id: string }[]; nextAfter: string | null } = await get(
        `?limit=2&after=${after}`,
      );
      expect(page.items.length).toBeLessThanOrEqual(2);
      ids.push(...page.items.map(({ id }) => id));
      after = page.nextAfter;
    }
    expect(ids).toEqual(all.items.map(({ id }) => id));
  });
});

describe('releases', () => {
  const newId = () => `ik-${randomBytes(8).toString('hex')}`;
  const release = async (change: object = {}, imageKey = Buffer.alloc(32, 7), imageKeyId = newId()) => ({
    productCode: sold.productCode,
    repository: 'registry.example/acme/api',
    version: '2.0.0',
    imageDigests: [randomDigest(), randomDigest()],
    imageKeyId,
    sealedImageKey: await sealImageKey(client, imageKeyId, imageKey),
    ...change,
  });

  it('can be registered twice with the same content, and not with any other', async () => {
    const input = await release();
    const first = await client.registerRelease(input);
    const resealed = await sealImageKey(client, input.imageKeyId, Buffer.alloc(32, 7));
    expect(await client.registerRelease({ ...input, sealedImageKey: resealed })).toEqual(first);
    for (const change of [
      { version: '2.0.1' },
      { imageDigests: [randomDigest()] },
      { sealedImageKey: await sealImageKey(client, input.imageKeyId, Buffer.alloc(32, 8)) },
    ]) {
      await expect(client.registerRelease({ ...input, ...change })).rejects.toMatchObject({
        code: 'STATE_CONFLICT',
      });
    }
    const taken = await release({ imageDigests: input.imageDigests });
    await expect(client.registerRelease(taken)).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
  });

  it('need an image key of 32 bytes that is sealed to this organization', async () => {
    const short = await release({}, Buffer.alloc(16));
    await expect(client.registerRelease(short)).rejects.toMatchObject({ code: 'KEY_INVALID' });
    const nonsense = await release({ sealedImageKey: 'a.b.c.d.e' });
    await expect(client.registerRelease(nonsense)).rejects.toMatchObject({ code: 'KEY_INVALID' });
  });
});

describe('API tokens', () => {
  it('with the permission set release may register releases and nothing else', async () => {
    const { token } = await client.createToken({ name: 'ci', permissionSet: 'release' });
    const ci = adminClient(server, token);
    expect((await ci.organization()).name).toBe('Acme');
    expect((await ci.product(sold.productCode)).code).toBe(sold.productCode);
    await ci.registerRelease({
      productCode: sold.productCode,
      repository: 'r',
      version: '1',
      imageDigests: [randomDigest()],
      imageKeyId: 'ik-ci',
      sealedImageKey: await sealImageKey(ci, 'ik-ci', Buffer.alloc(32, 9)),
    });
    const forbidden = { code: 'AUTH_FORBIDDEN' };
    await expect(ci.licenses()).rejects.toMatchObject(forbidden);
    await expect(ci.releases()).rejects.toMatchObject(forbidden);
    await expect(ci.createProduct({ code: 'x', name: 'x' })).rejects.toMatchObject(forbidden);
    await expect(auditLog(ci)).rejects.toMatchObject(forbidden);
    await expect(ci.createToken({ name: 'x', permissionSet: 'admin' })).rejects.toMatchObject(forbidden);
  });

  it('end at once when revoked, except the last admin', async () => {
    const { apiToken, token } = await client.createToken({ name: 'temp', permissionSet: 'admin' });
    const temporary = adminClient(server, token);
    await temporary.products();
    await client.revokeToken(apiToken.id);
    await expect(temporary.products()).rejects.toMatchObject({ code: 'AUTH_REQUIRED' });
    const admins = await client.tokens({ permissionSet: 'admin', state: 'ACTIVE' });
    expect(admins).toHaveLength(1);
    await expect(client.revokeToken(admins[0]!.id)).rejects.toMatchObject({ code: 'STATE_PRECONDITION' });
  });

  it('never appear in the audit log or the server log', async () => {
    const { token } = await client.createToken({ name: 'secret', permissionSet: 'release' });
    const log = JSON.stringify(await auditLog(client));
    for (const secret of [token, server.adminToken]) {
      expect(log).not.toContain(secret);
      expect(server.log()).not.toContain(secret);
    }
  });
});

describe('the client', () => {
  it('says in one line that nobody answers', async () => {
    const nobody = adminClient({ ...server, adminUrl: 'http://127.0.0.1:9' });
    await expect(nobody.products()).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
  });

  it('does not send its token on to another address', async () => {
    const { createServer } = await import('node:http');
    const seen: (string | undefined)[] = [];
    const elsewhere = createServer((request, response) => {
      seen.push(request.headers.authorization);
      response.end('{}');
    });
    const redirecting = createServer((_request, response) => {
      response.writeHead(307, { location: `http://127.0.0.1:${portOf(elsewhere)}/` }).end();
    });
    const portOf = (listener: typeof elsewhere) => (listener.address() as { port: number }).port;
    for (const listener of [elsewhere, redirecting]) {
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    }
    const sent = adminClient({ ...server, adminUrl: `http://127.0.0.1:${portOf(redirecting)}` });
    await expect(sent.products()).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
    expect(seen).toEqual([]);
    elsewhere.close();
    redirecting.close();
  });
});

it('serves the admin API over TLS with the files it is given', async () => {
  const files = {
    cert: join(server.dataDirectory, 'admin.pem'),
    key: join(server.dataDirectory, 'admin.key'),
  };
  const { execFile } = await import('node:child_process');
  const { promisify } = await import('node:util');
  const made = await promisify(execFile)('openssl', [
    ...[
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      '/CN=localhost',
    ],
    ...['-keyout', files.key, '-out', files.cert],
  ]);
  await writeFile(join(server.dataDirectory, 'openssl.log'), made.stderr);
  const secure = await startKeyServer({
    args: ['--admin-tls-cert', files.cert, '--admin-tls-key', files.key],
  });
  expect(secure.adminUrl).toMatch(/^https:/);
  await secure.dispose();
});

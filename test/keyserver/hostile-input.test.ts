import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAX_LICENSE_DURATION_MS, MAX_LICENSE_TIME_MS } from '#src/base/limits.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const DAY_MS = 86_400_000;

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

function post(path: string, token = server.adminToken): Promise<Response> {
  return fetch(`${server.adminUrl}/v1/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
  });
}

describe('a customer', () => {
  it.each([
    'Acme: Europe',
    'Acme:block',
    'A/B',
    '100% Org',
    'a#b?c',
    'C'.repeat(200),
    '株'.repeat(200),
    'line\nbreak',
  ])('is blocked by its name: %j', async (name) => {
    const { id } = await sold.client.createCustomer({ name });
    expect(await sold.client.changeCustomer(name, 'block')).toMatchObject({ id, state: 'BLOCKED' });
    expect(await sold.client.changeCustomer(name, 'unblock')).toMatchObject({ id, state: 'ACTIVE' });
  });

  it.each([
    ['that is too long', `customers/${'x'.repeat(5000)}:block`, 414, 'LIMIT_EXCEEDED'],
    ['that is no text', 'customers/%ff:block', 400, 'USAGE_INVALID'],
  ])('in a path %s is refused with problem details', async (_name, path, status, code) => {
    const response = await post(path);
    expect(response.status).toBe(status);
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    expect(await response.json()).toMatchObject({ type: 'about:blank', code, status });
  });
});

it.each([
  ['customers', { name: 'half \ud800' }],
  ['customers', { name: 'x', externalId: '\udc00' }],
  ['webhook-endpoints', { url: 'https://hook.example/\0', events: ['*'] }],
  ['webhook-endpoints', { url: 'https://hook.example/\ud800', events: ['*'] }],
  ['webhook-endpoints', { url: ' https://hook.exa\nmple/ ', events: ['*'] }],
])('text that no database gives back as it was is refused: %s %j', async (path, body) => {
  const response = await fetch(`${server.adminUrl}/v1/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${server.adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ code: 'USAGE_INVALID' });
});

describe('a license', () => {
  it('is not made for a time that is over, or that no Date can hold', async () => {
    await expect(sold.sell({ expiresAtMs: Date.now() - 1 })).rejects.toMatchObject({
      code: 'USAGE_INVALID',
      hint: expect.any(String) as string,
    });
    await expect(sold.sell({ startsAtMs: 8.64e15 + 1 })).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  });

  it('has no end that its terms or renewals put beyond what a Date can hold: no list would be read again', async () => {
    const { client } = sold;
    const refused = { code: 'USAGE_INVALID' };
    const tooLate = 8.64e15;
    await expect(sold.sell({ startsAtMs: tooLate, durationMs: DAY_MS })).rejects.toMatchObject(refused);
    await expect(sold.sell({ expiresAtMs: tooLate })).rejects.toMatchObject(refused);
    const { license } = await sold.sell({
      startsAtMs: MAX_LICENSE_TIME_MS,
      durationMs: MAX_LICENSE_DURATION_MS,
    });
    await expect(client.updateLicense(license.id, { startsAtMs: tooLate })).rejects.toMatchObject(refused);
    await expect(client.updateLicense(license.id, { expiresAtMs: tooLate })).rejects.toMatchObject(refused);
    await client.updateLicense(license.id, { startsAtMs: null, expiresAtMs: MAX_LICENSE_TIME_MS });
    await expect(client.renewLicense(license.id, DAY_MS)).rejects.toMatchObject({
      ...{ code: 'USAGE_INVALID', message: expect.stringContaining('year 9999') as string },
    });
    expect((await client.license(license.id)).expiresAtMs).toBe(MAX_LICENSE_TIME_MS);
    expect(await client.licenses({ product: sold.productCode })).toContainEqual(
      await client.license(license.id),
    );
  });
});

describe('a node', () => {
  it.each(['', 'node\u001b[2J', 'node\n', 'node\u009b31m'])('is not activated as %j', async (name) => {
    const { license, licenseKey } = await sold.sell();
    const key = await createNodeKey();
    await expect(activateNode(server, licenseKey, { name, key })).rejects.toMatchObject({
      code: 'INPUT_MALFORMED',
    });
    expect((await sold.client.license(license.id)).usedNodes).toBe(0);
  });

  it.each(['', 'x'.repeat(60_000)])('cannot put any text into the audit log as a lease id', async (id) => {
    const node = await activateNode(server, (await sold.sell()).licenseKey);
    const before = (await auditLog(sold.client)).length;
    await expect(node.renew(['lease_x', id])).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
    expect(await auditLog(sold.client)).toHaveLength(before);
    node.close();
  });
});

it('a token that may not do what it asks for is in the audit log', async () => {
  const { apiToken, token } = await sold.client.createToken({ name: 'ci', permissionSet: 'release' });
  await expect(adminClient(server, token).changeLicense('lic_x', 'revoke')).rejects.toMatchObject({
    code: 'AUTH_FORBIDDEN',
  });
  expect((await auditLog(sold.client)).at(-1)).toMatchObject({
    actor: `token:${apiToken.id}`,
    action: 'token.use',
    outcome: 'denied',
    code: 'AUTH_FORBIDDEN',
    target: expect.stringMatching(/^POST \/v1\/licenses\//u) as string,
  });
});

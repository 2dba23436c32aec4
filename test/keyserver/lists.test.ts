/** Every list of the admin API: pages, order and filters. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import type { License } from '#src/wire/admin/license.ts';
import { type Order, pageSchema } from '#src/wire/admin/page.ts';
import { WebhookClient } from '../../cli/webhook-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, createSoldProduct, registerImage } from '../fakes/sold-product.ts';

const HOUR_MS = 3_600_000;
let server: TestKeyServer;
let sold: SoldProduct;
let other: SoldProduct;
let licenses: License[];
const nodes: LicensedNode[] = [];

beforeAll(async () => {
  server = await startKeyServer();
  [sold, other] = [await createSoldProduct(server), await createSoldProduct(server)];
  licenses = [];
  for (const terms of [{}, { expiresAtMs: Date.now() + HOUR_MS }, { startsAtMs: Date.now() + HOUR_MS }]) {
    licenses.push((await sold.sell(terms)).license);
  }
  await other.sell();
  for (const product of [sold, sold, other]) {
    const { license, licenseKey } = await product.sell();
    licenses.push(license);
    const node = await activateNode(server, licenseKey, { name: `node-${nodes.length}` });
    nodes.push(node);
    await node.acquire(product.image);
    await node.acquire(product.image);
  }
  await sold.client.changeLicense(licenses[0]!.id, 'suspend');
  await registerImage(sold.client, sold.productCode);
  await sold.client.createJoinToken(licenses[1]!.id, {});
  await sold.client.createToken({ name: 'a', permissionSet: 'auditor' });
  const webhooks = new WebhookClient({ serverUrl: server.adminUrl, token: server.adminToken });
  for (const name of ['a', 'b', 'c']) {
    await sold.client.policies.create({ code: name });
    await webhooks.create({ url: `https://crm.acme.example/${name}`, events: ['customer.block'] });
  }
});

afterAll(async () => {
  for (const node of nodes) node.close();
  await server.dispose();
});

const itemSchema = z.looseObject({ id: z.string().optional(), sequence: z.int().optional() });

async function get(path: string, token = server.adminToken): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${server.adminUrl}/v1/${path}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  return { status: response.status, body: await response.json() };
}

/** Walks a list in pages of two. */
async function walk(list: string, order: Order): Promise<(string | number | undefined)[]> {
  const items: z.infer<typeof itemSchema>[] = [];
  let after = '';
  for (;;) {
    const { body } = await get(`${list}?limit=2&order=${order}${after}`);
    const page = pageSchema(itemSchema).parse(body);
    expect(page.items.length).toBeLessThanOrEqual(2);
    items.push(...page.items);
    if (page.nextAfter === null) return items.map(({ id, sequence }) => id ?? sequence);
    after = `&after=${encodeURIComponent(page.nextAfter)}`;
  }
}

const LISTS = [
  ...['products', 'releases', 'customers', 'licenses', 'nodes', 'leases', 'join-tokens', 'api-tokens'],
  ...['policies', 'webhook-endpoints', 'audit-events'],
];
const LISTS_OF_LICENSE = ['nodes', 'offline-bundles', 'usage-reports'].map((list) => `licenses/{id}/${list}`);

describe('every list', () => {
  it.each(LISTS)('comes in pages, the oldest or the newest first: %s', async (list) => {
    const oldestFirst = await walk(list, 'asc');
    expect(oldestFirst.length).toBeGreaterThan(0);
    expect(oldestFirst).toEqual([...new Set(oldestFirst)].sort((a, b) => (a! < b! ? -1 : 1)));
    const newestFirst = await walk(list, 'desc');
    // The time that a token was used last makes no event; nothing else happens meanwhile.
    expect(newestFirst).toEqual(oldestFirst.toReversed());
  });

  it.each([...LISTS, ...LISTS_OF_LICENSE])(
    'refuses a cursor that is none, and a filter that it does not have: %s',
    async (name) => {
      const list = name.replace('{id}', licenses[0]!.id);
      expect((await get(list)).status).toBe(200);
      for (const query of ['after=nonsense', 'color=red', 'order=up', 'limit=0', 'limit=1001']) {
        expect(await get(`${list}?${query}`), query).toMatchObject({
          status: 400,
          body: { code: 'USAGE_INVALID' },
        });
      }
    },
  );

  it('is one of those that the document pages: none is forgotten here', async () => {
    const parameter = z.object({ name: z.string() });
    const method = z.object({ parameters: z.array(parameter).default([]) });
    const paths = z.record(z.string(), z.object({ get: method.optional() }));
    const document = z.object({ paths }).parse((await get('openapi.json')).body);
    const paged = Object.entries(document.paths)
      .filter(([, { get: read }]) => read?.parameters.some(({ name }) => name === 'order'))
      .map(([path]) => path.replace('/v1/', ''));
    expect(paged.sort()).toEqual([...LISTS, ...LISTS_OF_LICENSE].sort());
  });

  it('refuses a parameter that is empty, as one from a variable that was not set', async () => {
    const empty = ['expiresUntilMs=', 'createdFromMs=', 'limit=', 'state=', 'order=asc&createdUntilMs='];
    for (const query of empty) {
      expect(await get(`licenses?${query}`), query).toMatchObject({
        ...{ status: 400, body: { code: 'USAGE_INVALID', hint: expect.any(String) as string } },
      });
    }
    expect((await get('audit-events?untilMs=')).status).toBe(400);
    expect((await get('licenses?after=')).status).toBe(200);
  });

  it.each(LISTS.slice(0, -1))('can be asked for a range of time: %s', async (list) => {
    const now = Date.now();
    const all = await walk(list, 'asc');
    const count = async (query: string) =>
      pageSchema(itemSchema).parse((await get(`${list}?${query}`)).body).items.length;
    expect(await count(`createdUntilMs=${now + HOUR_MS}`)).toBe(all.length);
    expect(await count(`createdFromMs=${now + HOUR_MS}`)).toBe(0);
  });
});

describe('filters', () => {
  const ids = (items: readonly { readonly id: string }[]) => items.map(({ id }) => id);

  it('of licenses', async () => {
    const { client, productCode, customerId } = sold;
    const own = licenses.slice(0, 5);
    expect(ids(await client.licenses({ product: productCode }))).toEqual(ids(own));
    expect(ids(await client.licenses({ customer: customerId, order: 'desc' }))).toEqual(
      ids(own.toReversed()),
    );
    expect(ids(await client.licenses({ customer: customerId, limit: 2 }))).toEqual(ids(own.slice(0, 2)));
    expect(ids(await client.licenses({ node: nodes[0]!.activation.nodeId }))).toEqual([own[3]!.id]);
    expect(ids(await client.licenses({ product: productCode, state: 'SUSPENDED' }))).toEqual([own[0]!.id]);
    expect(ids(await client.licenses({ product: productCode, state: 'NOT_STARTED' }))).toEqual([own[2]!.id]);
    expect(ids(await client.licenses({ product: productCode, state: 'ACTIVE' }))).toEqual(ids(own.slice(3)));
    const untilMs = Date.now() + 2 * HOUR_MS;
    expect(ids(await client.licenses({ expiresUntilMs: untilMs }))).toEqual([own[1]!.id]);
    expect(ids(await client.licenses({ expiresFromMs: untilMs }))).toEqual([]);
    expect(ids(await client.licenses({ product: productCode, customer: other.customerId }))).toEqual([]);
    await expect(client.licenses({ product: 'unknown' })).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });

  it('of nodes, leases, releases, customers and tokens', async () => {
    const { client, productCode } = sold;
    const [nodeId, licenseId] = [nodes[0]!.activation.nodeId, licenses[3]!.id];
    expect(ids(await client.nodes({ license: licenseId }))).toEqual([nodeId]);
    expect(ids(await client.nodes({ state: 'BANNED' }))).toEqual([]);
    expect(ids(await client.nodes({ installation: 'nowhere' }))).toEqual([]);
    const leases = await client.leases({ license: licenseId });
    const [listed] = await client.nodes({ license: licenseId });
    expect(listed?.lastContactAtMs).toBe(Math.max(...leases.map(({ issuedAtMs }) => issuedAtMs)));
    expect(leases.map((lease) => lease.nodeId)).toEqual([nodeId, nodeId]);
    expect(ids(await client.leases({ node: nodeId, order: 'desc' }))).toEqual(ids(leases.toReversed()));
    expect(ids(await client.leases({ node: nodeId, license: licenses[5]!.id }))).toEqual([]);
    expect((await client.releases({ product: productCode })).length).toBe(2);
    expect(ids(await client.releases({ product: productCode, state: 'YANKED' }))).toEqual([]);
    expect(
      (await client.releases({ repository: 'registry.example/acme/web', version: '1.0.0' })).length,
    ).toBe(3);
    expect((await client.customers({ state: 'ACTIVE' })).length).toBe(2);
    expect(ids(await client.customers({ name: (await client.customers())[0]!.name }))).toEqual([
      sold.customerId,
    ]);
    expect(ids(await client.customers({ externalId: 'unknown' }))).toEqual([]);
    expect((await client.tokens({ permissionSet: 'auditor' })).map(({ name }) => name)).toEqual(['a']);
    expect(ids(await client.tokens({ product: productCode }))).toEqual([]);
    expect((await client.joinTokens({ license: licenses[1]!.id })).length).toBe(1);
    expect(await client.joinTokens({ license: licenseId })).toEqual([]);
  });

  it.each([
    'licenses?node=node_unknown',
    'nodes?license=lic_unknown',
    'leases?license=lic_unknown',
    'leases?node=node_unknown',
    'join-tokens?license=lic_unknown',
  ])('refuse what is not there, for an empty list would say that it has nothing: %s', async (query) => {
    expect(await get(query)).toMatchObject({
      status: 404,
      body: {
        code: 'STATE_NOT_FOUND',
        detail: expect.stringContaining('_unknown') as string,
        hint: expect.stringContaining('latchkey') as string,
      },
    });
  });

  it('of audit events', async () => {
    const { client } = sold;
    const nodeId = nodes[0]!.activation.nodeId;
    const all = await client.listAuditEvents({});
    const list = async (filter: Parameters<typeof client.listAuditEvents>[0]) =>
      (await client.listAuditEvents(filter)).map(({ sequence }) => sequence);
    const expected = (isAsked: (event: (typeof all)[number]) => boolean) =>
      all.filter((event) => isAsked(event)).map(({ sequence }) => sequence);
    await expect(nodes[0]!.acquire(other.image)).rejects.toMatchObject({ code: 'DENIED_LICENSE_NOT_FOUND' });
    const denied = await list({ outcome: 'denied' });
    expect(denied.length).toBe(1);
    expect(await list({ actor: `node:${nodeId}`, outcome: 'allowed' })).toEqual(
      expected(({ actor, outcome }) => actor === `node:${nodeId}` && outcome === 'allowed'),
    );
    expect(await list({ action: 'license.suspend' })).toEqual(
      expected(({ action }) => action === 'license.suspend'),
    );
    expect(await list({ target: licenses[0]!.id, order: 'desc' })).toEqual(
      expected(({ target }) => target === licenses[0]!.id).reverse(),
    );
    for (const { timeMs } of [all[0]!, all[Math.floor(all.length / 2)]!, all.at(-1)!]) {
      expect(await list({ untilMs: timeMs })).toEqual(expected((event) => event.timeMs < timeMs));
      const from = await list({ fromMs: timeMs, order: 'desc' });
      expect(from.slice(denied.length)).toEqual(expected((event) => event.timeMs >= timeMs).reverse());
    }
  });

  it('of audit events, each with the request that it came about by and how its sender was known', async () => {
    const { client } = sold;
    const [refused] = await client.listAuditEvents({ outcome: 'denied' });
    expect(refused?.authMethod).toBe('node-certificate');
    expect(server.log()).toContain(`"requestId":"${refused?.requestId ?? 'none'}"`);
    // At once, so that they are committed together; and with a body, behind which the connection calls.
    const names = ['a', 'b', 'c', 'd'].map((name) => ({ name: `together-${name}` }));
    await Promise.all(names.map((input) => client.createCustomer(input)));
    const created = (await client.listAuditEvents({ action: 'customer.create', order: 'desc' })).slice(0, 4);
    expect(new Set(created.map(({ requestId }) => requestId)).size).toBe(4);
    const methodOf = async (action: string) =>
      (await client.listAuditEvents({ action })).map(({ authMethod, requestId }) => [
        authMethod,
        typeof requestId,
      ]);
    expect(await methodOf('license.suspend')).toEqual([['api-token', 'string']]);
    expect((await methodOf('node.activate'))[0]).toEqual(['license-key', 'string']);
    expect(await methodOf('organization.create')).toEqual([['none', 'undefined']]);
  });

  it('tell a token for one customer nothing of others', async () => {
    const { token } = await sold.client.createToken({
      name: 'part',
      permissionSet: 'customer-support',
      customer: sold.customerId,
    });
    for (const [filter, name] of [
      ['customer', other.customerId],
      ['product', other.productCode],
    ] as const) {
      const told = async (value: string) => {
        const { status, body } = await get(`licenses?${filter}=${value}`, token);
        return [status, JSON.stringify(body).replaceAll(value, 'IT')];
      };
      expect((await told(name))[0]).toBe(404);
      expect(await told(name)).toEqual(await told('unknown'));
    }
    for (const [list, filter, id] of [
      ['leases', 'license', licenses[5]!.id],
      ['join-tokens', 'license', licenses[5]!.id],
      ['leases', 'node', nodes[2]!.activation.nodeId],
      ['licenses', 'node', nodes[2]!.activation.nodeId],
    ] as const) {
      const told = async (value: string) => {
        const { status, body } = await get(`${list}?${filter}=${value}`, token);
        return [status, JSON.stringify(body).replaceAll(value, 'IT')];
      };
      expect(await told(id), list).toEqual(await told('unknown'));
    }
    const client = adminClient(server, token);
    expect((await client.licenses({ product: sold.productCode })).length).toBe(5);
    expect((await client.leases({ license: licenses[3]!.id })).length).toBe(2);
  });
});

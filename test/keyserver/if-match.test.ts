/** If-Match on every change that the admin API has: honoured or refused, never passed over. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import * as z from 'zod';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { WebhookClient } from '../../cli/webhook-client.ts';
import { NAMED_METER, type ThingNames, createNamedThings, namedPath } from '../fakes/named-things.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

const STALE = [412, 'STATE_REVISION_STALE'];

const documentSchema = z.object({
  paths: z.record(
    z.string(),
    z.record(z.string(), z.object({ parameters: z.array(z.object({ name: z.string() })).default([]) })),
  ),
});

interface Operation {
  readonly method: string;
  /** With the names of existing things, so that nothing but the header stands in the way of a change. */
  readonly path: string;
  readonly takesIfMatch: boolean;
}

let server: TestKeyServer;
let sold: SoldProduct;
let webhooks: WebhookClient;
let names: ThingNames;
let operations: Operation[];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  webhooks = new WebhookClient({ serverUrl: server.adminUrl, token: server.adminToken });
  names = await createNamedThings(server, sold);
  const { paths } = documentSchema.parse(await (await send('GET', '/v1/openapi.json')).json());
  operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters }]) => ({
      method: method.toUpperCase(),
      path: namedPath(path, names),
      takesIfMatch: parameters.some(({ name }) => name === 'if-match'),
    })),
  );
});

afterAll(() => server.dispose());

function send(method: string, path: string, ifMatch?: string, body?: object): Promise<Response> {
  return fetch(server.adminUrl + path, {
    method,
    headers: {
      authorization: `Bearer ${server.adminToken}`,
      ...(ifMatch === undefined ? {} : { 'if-match': ifMatch }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

async function codeOf(response: Response): Promise<unknown[]> {
  return [response.status, ((await response.json()) as { code: string }).code];
}

/** What a change that needs a body is given; of others an empty object is none. */
function bodyOf({ method, path }: Operation): object | undefined {
  if (method === 'DELETE') return undefined;
  return path.endsWith(`/meters/${NAMED_METER}`) ? { max: 1 } : {};
}

/** All that can be read, but when this token was used last. */
async function everything(): Promise<string[]> {
  const texts: string[] = [];
  for (const { path } of operations.filter(({ method }) => method === 'GET')) {
    const response = await send('GET', path);
    expect(response.status, path).toBe(200);
    texts.push(`${path} ${(await response.text()).replaceAll(/"lastUsedAtMs":\d+/g, '')}`);
  }
  return texts;
}

it('lets no change through when it is stale: each takes it or refuses it', async () => {
  const before = await everything();
  for (const operation of operations.filter(({ method }) => method !== 'GET')) {
    const { method, path, takesIfMatch } = operation;
    const answer = await (await send(method, path, '"1"', bodyOf(operation))).json();
    const expected = takesIfMatch
      ? { status: 412, code: 'STATE_REVISION_STALE' }
      : { status: 400, code: 'USAGE_INVALID', detail: 'this request takes no If-Match' };
    expect(answer, `${method} ${path}`).toMatchObject(expected);
  }
  expect(await everything()).toEqual(before);
});

it('is taken by every change of what has a revision', () => {
  const refusing = operations.filter(({ method, takesIfMatch }) => method !== 'GET' && !takesIfMatch);
  const withName = refusing.filter(({ path }) => Object.values(names).some((name) => path.includes(name)));
  expect(
    withName.map(({ method, path }) => `${method} ${path.split('/').at(-1)?.split(':').at(-1)}`),
  ).toEqual([
    // They add something, and change nothing that anybody could have seen before.
    'POST elements',
    'POST join-tokens',
    'POST check-out',
    'POST report',
    // A slot has no revision.
    'POST remove',
  ]);
});

it('lets a change of the resource through that was seen, once', async () => {
  const { client } = sold;
  const imageKey = `/v1/image-keys/${names['image-keys']}`;
  const webhook = `/v1/webhook-endpoints/${names['webhook-endpoints']}`;
  const meter = `/v1/licenses/${names.licenses}/meters/${NAMED_METER}`;
  const revisionOf = {
    imageKey: async () => (await client.imageKey(names['image-keys'])).revision,
    webhook: async () => (await webhooks.endpoints())[0]!.revision,
    meter: async () => (await client.metering.meters(names.licenses))[0]!.revision,
    token: async () => (await client.tokens()).find(({ id }) => id === names['api-tokens'])!.revision,
  };
  for (const [thing, method, path, body] of [
    ['imageKey', 'POST', `${imageKey}/schedule-destruction`, {}],
    ['imageKey', 'POST', `${imageKey}/cancel-destruction`],
    ['meter', 'PUT', meter, { max: 8 }],
    ['webhook', 'POST', `${webhook}:enable`],
    ['webhook', 'POST', `${webhook}:disable`],
  ] as const) {
    const seen = `"${await revisionOf[thing]()}"`;
    const response = await send(method, path, seen, body);
    expect(response.status, path).toBe(200);
    expect(response.headers.get('etag'), path).toBe(`"${await revisionOf[thing]()}"`);
    expect(response.headers.get('etag'), path).not.toBe(seen);
    expect(await codeOf(await send(method, path, seen, body)), path).toEqual(STALE);
  }
  expect((await send('GET', imageKey)).headers.get('etag')).toBe(`"${await revisionOf.imageKey()}"`);
  for (const [thing, path] of [
    ['webhook', webhook],
    ['token', `/v1/api-tokens/${names['api-tokens']}`],
  ] as const) {
    const seen = `"${await revisionOf[thing]()}"`;
    expect((await send('DELETE', path, seen)).status, path).toBe(204);
    expect(await codeOf(await send('DELETE', path, seen)), path).toEqual(STALE);
    expect((await send('DELETE', path, '*')).status, path).toBe(204);
  }
});

it('makes no meter, for none of that name was seen', async () => {
  const meter = `/v1/licenses/${names.licenses}/meters/new`;
  for (const header of ['"1"', '*'])
    expect(await codeOf(await send('PUT', meter, header, { max: 1 })), header).toEqual(STALE);
  expect((await send('PUT', meter, undefined, { max: 1 })).status).toBe(200);
  expect((await send('PUT', meter, '*', { max: 2 })).status).toBe(200);
  const nowhere = await send('PUT', '/v1/licenses/lic_none/meters/new', '"1"', { max: 1 });
  expect(await codeOf(nowhere)).toEqual([404, 'STATE_NOT_FOUND']);
});

it('changes nothing about who is let in: without a token the answer is that', async () => {
  const response = await fetch(`${server.adminUrl}/v1/products`, {
    method: 'POST',
    headers: { 'if-match': '"1"' },
  });
  expect(response.status).toBe(401);
});

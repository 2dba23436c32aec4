/** Every operation that the admin API says it has, with the edges of its own schemas and with hostile bodies. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import * as z from 'zod';
import { ERROR_TABLE, isErrorCode } from '#src/base/errors.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type ThingNames, createNamedThings, namedPath } from '../fakes/named-things.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

interface Schema {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
}

const operationSchema = z.object({
  parameters: z.array(z.object({ name: z.string(), in: z.string(), schema: z.custom<Schema>() })).default([]),
  requestBody: z
    .object({ content: z.object({ 'application/json': z.object({ schema: z.custom<Schema>() }) }) })
    .optional(),
  responses: z.record(z.string(), z.object({ content: z.record(z.string(), z.unknown()).optional() })),
});

const documentSchema = z.object({ paths: z.record(z.string(), z.record(z.string(), operationSchema)) });

interface Operation extends z.infer<typeof operationSchema> {
  readonly name: string;
  readonly method: string;
  readonly path: string;
}

/** What no schema here allows, or only just: types, prototypes, halves of characters, null bytes, sizes. */
const ODD_VALUES: readonly unknown[] = [
  null,
  true,
  '',
  ' ',
  'a\0b',
  '\ud800',
  '\u202e\u001b[2J',
  '__proto__',
  'x'.repeat(5000),
  -1,
  0,
  1.5,
  Number.MAX_SAFE_INTEGER,
  1e300,
  [],
  {},
  [[[]]],
];

const RAW_BODIES: readonly (readonly [string, string | Uint8Array<ArrayBuffer>, Record<string, string>])[] = [
  ['deep nesting', '['.repeat(100_000), {}],
  ['deep nesting that ends', `${'['.repeat(50_000)}${']'.repeat(50_000)}`, {}],
  ['a field twice', '{"name":"a","name":"b"}', {}],
  ['__proto__', '{"__proto__":{"name":"a"},"name":"b"}', {}],
  ['constructor.prototype', '{"constructor":{"prototype":{"name":"a"}}}', {}],
  ['a huge number', `{"name":1${'0'.repeat(1000)}}`, {}],
  ['invalid UTF-8', Uint8Array.of(0x22, 0xff, 0xfe, 0x22), {}],
  ['nothing', '', {}],
  ['text', 'name=x', { 'content-type': 'text/plain' }],
  ['a form', 'name=x', { 'content-type': 'application/x-www-form-urlencoded' }],
  ['a content type that is none', '{}', { 'content-type': 'x' }],
  ['a gzip bomb', new Uint8Array(gzipSync(Buffer.alloc(5_000_000))), { 'content-encoding': 'gzip' }],
  ['more than the limit', `{"name":"${'x'.repeat(300_000)}"}`, {}],
];

let server: TestKeyServer;
let operations: Operation[];
let names: ThingNames;

beforeAll(async () => {
  // None of what is sent may be refused for being one too many.
  server = await startKeyServer({ args: ['--rate-limit', 'token=1000000/1000000'] });
  names = await createNamedThings(server, await createSoldProduct(server));
  const document = documentSchema.parse(await (await fetch(`${server.adminUrl}/v1/openapi.json`)).json());
  const all = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      ...operation,
      name: `${method.toUpperCase()} ${path}`,
      method: method.toUpperCase(),
      path,
    })),
  );
  // What ends a thing comes last: nothing reaches it any more.
  operations = [...all.filter(({ name }) => !isEnd(name)), ...all.filter(({ name }) => isEnd(name))];
});

afterAll(() => server.dispose());

function plausible(schema: Schema): unknown {
  if (schema.anyOf?.[0] !== undefined) return plausible(schema.anyOf[0]);
  if (schema.enum !== undefined) return schema.enum[0];
  if (schema.properties !== undefined) {
    return Object.fromEntries(
      Object.entries(schema.properties).map(([name, each]) => [name, plausible(each)]),
    );
  }
  if (schema.items !== undefined) return [plausible(schema.items)];
  if (schema.type === 'integer' || schema.type === 'number') return schema.minimum ?? 1;
  return 'x'.repeat(Math.max(1, schema.minLength ?? 1));
}

/** The limits of a schema and what is one beyond them. */
function edges(schema: Schema): unknown[] {
  const numbers = [schema.minimum, schema.maximum].flatMap((edge) =>
    edge === undefined ? [] : [edge - 1, edge, edge + 1],
  );
  const texts = [schema.minLength, schema.maxLength].flatMap((edge) =>
    edge === undefined || edge > 10_000 ? [] : ['x'.repeat(edge), '株'.repeat(edge + 1)],
  );
  return [...numbers, ...texts, ...ODD_VALUES];
}

function bodiesOf(schema: Schema): unknown[] {
  const object = schema.properties === undefined ? schema.anyOf?.find((each) => each.properties) : schema;
  if (object?.properties === undefined) return edges(schema);
  const whole = plausible(object) as Record<string, unknown>;
  const changed = Object.entries(object.properties).flatMap(([name, each]) => [
    ...edges(each).map((value) => ({ ...whole, [name]: value })),
    Object.fromEntries(Object.entries(whole).filter(([other]) => other !== name)),
  ]);
  return [whole, { ...whole, unknownField: 1 }, ...changed, ...ODD_VALUES];
}

async function send(
  { method, name }: Operation,
  path: string,
  body: string | Uint8Array<ArrayBuffer> | null = null,
  headers: Record<string, string> = {},
): Promise<number> {
  const response = await fetch(`${server.adminUrl}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${server.adminToken}`,
      ...(body === null ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    body,
  });
  const text = await response.text();
  const what = `${name} ${path.slice(0, 200)} ${String(body).slice(0, 200)}: ${text.slice(0, 200)}`;
  expect(response.status, what).toBeLessThan(500);
  expect(response.status, what).not.toBe(429);
  if (response.status < 400) return response.status;
  expect(response.headers.get('content-type'), what).toContain('application/problem+json');
  const { code, status } = z.object({ code: z.string(), status: z.number() }).parse(JSON.parse(text));
  expect(isErrorCode(code) && code in ERROR_TABLE, what).toBe(true);
  expect(status, what).toBe(response.status);
  return status;
}

/** The path to something that exists; or with something in place of its parameters that is no id. */
function pathOf({ path }: Operation, value?: string): string {
  return value === undefined
    ? namedPath(path, names)
    : path.replaceAll(/\{\w+\}/g, encodeURIComponent(value));
}

const isEnd = (name: string) => /^DELETE|:(?:block|revoke|ban|retire|yank)$|schedule-destruction$/.test(name);

async function expectHealthy(): Promise<void> {
  expect((await fetch(`${server.adminUrl}/healthz`)).status).toBe(200);
  expect(server.log()).not.toContain('BUG_UNEXPECTED');
}

it('says of every operation what it needs and that it may answer with a problem', () => {
  expect(operations.length).toBeGreaterThan(20);
  for (const { name, responses } of operations) {
    expect(Object.keys(responses['default']?.content ?? {}), name).toEqual(['application/problem+json']);
  }
});

it('no body at the edge of its schema, or beyond, makes the server fail', async () => {
  for (const operation of operations) {
    const schema = operation.requestBody?.content['application/json'].schema;
    if (schema === undefined) continue;
    const statuses = new Set<number>();
    for (const body of bodiesOf(schema))
      statuses.add(await send(operation, pathOf(operation), JSON.stringify(body)));
    // What the path names is there, or has been until now.
    if (operation.path.includes('{')) expect([...statuses], operation.name).not.toEqual([404]);
  }
  await expectHealthy();
});

it.each([
  ['POST', 'customers', '{"name":"a\\u0000b"}'],
  ['POST', 'customers/a%00b:block', null],
  ['GET', 'customers?after=%00', null],
])('refuses a null character: %s %s', async (method, path, body) => {
  const response = await fetch(`${server.adminUrl}/v1/${path}`, {
    method,
    headers: {
      authorization: `Bearer ${server.adminToken}`,
      ...(body === null ? {} : { 'content-type': 'application/json' }),
    },
    body,
  });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ code: 'USAGE_INVALID' });
});

it('no hostile body makes the server fail', async () => {
  for (const operation of operations.filter(({ method }) => method !== 'GET')) {
    for (const [, body, headers] of RAW_BODIES) await send(operation, pathOf(operation), body, headers);
  }
  await expectHealthy();
});

it('no parameter in path, query or header makes the server fail', async () => {
  const texts = ODD_VALUES.filter((value) => typeof value !== 'object').map(String);
  for (const operation of operations) {
    const body = operation.method === 'POST' ? '{}' : null;
    for (const text of texts.filter((each) => each !== '' && each.isWellFormed())) {
      if (operation.path.includes('{')) await send(operation, pathOf(operation, text), body);
      for (const parameter of operation.parameters.filter((each) => each.in === 'query')) {
        const query = `${encodeURIComponent(parameter.name)}=${encodeURIComponent(text)}`;
        await send(operation, `${pathOf(operation)}?${query}&${query}`, body);
        await send(operation, `${pathOf(operation)}?${query}`, body);
      }
    }
    await send(operation, `${pathOf(operation)}?unknown=1&__proto__=1`, body);
    await send(operation, pathOf(operation), body, { 'idempotency-key': 'a b', 'if-match': '"' });
  }
  await expectHealthy();
});

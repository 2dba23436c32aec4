/** What HTTP promises: versions and conditional changes, methods, answers that hold what their schema says, a valid document. */
import { Validator } from '@seriousme/openapi-schema-validator';
import fastify from 'fastify';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format } from 'prettier';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import type { License } from '#src/wire/admin/license.ts';
import { answerByTheSchema } from '../../keyserver/http/admin-app.ts';
import { apiMarkdown } from '../../scripts/api-markdown.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let document: { paths: Record<string, Record<string, unknown>> };

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  document = (await (await fetch(`${server.adminUrl}/v1/openapi.json`)).json()) as typeof document;
});

afterAll(() => server.dispose());

function ask(method: string, path: string, ifMatch?: string): Promise<Response> {
  return fetch(`${server.adminUrl}/v1/${path}`, {
    method,
    headers: {
      authorization: `Bearer ${server.adminToken}`,
      ...(ifMatch === undefined ? {} : { 'if-match': ifMatch }),
    },
  });
}

async function codeOf(response: Response): Promise<[number, string]> {
  const { code } = (await response.json()) as { code: string };
  return [response.status, code];
}

const STALE = [412, 'STATE_REVISION_STALE'];

describe('a version', () => {
  it('comes with every single resource, and grows with its changes', async () => {
    const { license, licenseKey } = await sold.sell();
    const node = await activateNode(server, licenseKey);
    node.close();
    const [release] = await sold.client.releases({ product: sold.productCode });
    for (const path of [
      `licenses/${license.id}`,
      `nodes/${node.activation.nodeId}`,
      `customers/${sold.customerId}`,
      `products/${sold.productCode}`,
      `releases/${release!.id}`,
      'organization',
    ]) {
      const response = await ask('GET', path);
      const { revision } = (await response.json()) as { revision: number };
      expect(response.headers.get('etag'), path).toBe(`"${revision}"`);
    }
    const before = (await ask('GET', `licenses/${license.id}`)).headers.get('etag');
    const changed = await ask('POST', `licenses/${license.id}:suspend`);
    expect(changed.headers.get('etag')).not.toBe(before);
    expect(changed.headers.get('etag')).toBe(`"${((await changed.json()) as License).revision}"`);
    expect((await ask('GET', 'licenses')).headers.get('etag')).toBeNull();
  });

  it('keeps a change from what the caller has not seen', async () => {
    const { license, licenseKey } = await sold.sell();
    const node = await activateNode(server, licenseKey);
    node.close();
    const [release] = await sold.client.releases({ product: sold.productCode });
    const { joinToken } = await sold.client.createJoinToken(license.id, {});
    for (const [path, change] of [
      [`licenses/${license.id}`, ':suspend'],
      [`nodes/${node.activation.nodeId}`, ':ban'],
      [`customers/${sold.customerId}`, ':block'],
      [`customers/${sold.customerId}`, ':unblock'],
      [`releases/${release!.id}`, ':yank'],
    ] as const) {
      const etag = (await ask('GET', path)).headers.get('etag')!;
      expect(await codeOf(await ask('POST', path + change, '"1"')), path).toEqual(STALE);
      expect(await codeOf(await ask('POST', path + change, `W/${etag}`)), path).toEqual(STALE);
      expect((await ask('GET', path)).headers.get('etag')).toBe(etag);
      const changed = await ask('POST', path + change, `"1", ${etag}`);
      expect(changed.status, path).toBe(200);
      // Once more with what was seen before, though there is nothing left to do.
      expect(await codeOf(await ask('POST', path + change, etag)), path).toEqual(STALE);
      expect((await ask('POST', path + change, '*')).status, path).toBe(200);
    }
    const path = `join-tokens/${joinToken.id}:revoke`;
    expect(await codeOf(await ask('POST', path, '"1"'))).toEqual(STALE);
    expect((await ask('POST', path, `"${joinToken.revision}"`)).status).toBe(200);
  });

  it('keeps an update of a license or a policy from it too, but not the repeat of a renewal', async () => {
    const { license } = await sold.sell({ expiresAtMs: Date.now() + 3_600_000 });
    const policy = await sold.client.policies.create({ code: `p-${license.id.slice(-8)}` });
    const send = (method: string, path: string, body: object, headers: Record<string, string>) =>
      fetch(`${server.adminUrl}/v1/${path}`, {
        method,
        headers: {
          authorization: `Bearer ${server.adminToken}`,
          'content-type': 'application/json',
          ...headers,
        },
        body: JSON.stringify(body),
      });
    for (const [path, revision] of [
      [`licenses/${license.id}`, license.revision],
      [`policies/${policy.code}`, policy.revision],
    ] as const) {
      const update = { maxNodes: 5 };
      expect(await codeOf(await send('PATCH', path, update, { 'if-match': '"1"' })), path).toEqual(STALE);
      expect((await send('PATCH', path, update, { 'if-match': `"${revision}"` })).status, path).toBe(200);
    }
    const { revision } = await sold.client.license(license.id);
    const renew = (key: string) =>
      send(
        'POST',
        `licenses/${license.id}:renew`,
        { durationMs: 3_600_000 },
        {
          'if-match': `"${revision}"`,
          'idempotency-key': key,
        },
      );
    const renewed = await renew('once');
    expect(renewed.status).toBe(200);
    expect(await (await renew('once')).json()).toEqual(await renewed.json());
    expect(await codeOf(await renew('twice'))).toEqual(STALE);
  });

  it('lets one of two changes through that have seen the same', async () => {
    const { license, licenseKey } = await sold.sell();
    (await activateNode(server, licenseKey)).close();
    const etag = (await ask('GET', `licenses/${license.id}`)).headers.get('etag')!;
    const answers = await Promise.all(
      ['suspend', 'revoke', 'suspend', 'revoke'].map((verb) =>
        ask('POST', `licenses/${license.id}:${verb}`, etag),
      ),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 412, 412, 412]);
  });

  it('that is none is refused, and of what is not there it says so', async () => {
    const { license } = await sold.sell();
    for (const header of ['1', '"', '""x', '"1" "2"', Array(20).fill('"1"').join()]) {
      const response = await ask('POST', `licenses/${license.id}:suspend`, header);
      expect(await codeOf(response), header).toEqual([400, 'USAGE_INVALID']);
    }
    expect(await codeOf(await ask('POST', 'licenses/lic_none:suspend', '"1"'))).toEqual([
      404,
      'STATE_NOT_FOUND',
    ]);
    expect(await codeOf(await ask('POST', 'customers/nobody:block', '"1"'))).toEqual([
      404,
      'STATE_NOT_FOUND',
    ]);
  });
});

it('a path says which methods it has', async () => {
  for (const [path, operations] of Object.entries(document.paths)) {
    const methods = Object.keys(operations).map((method) => method.toUpperCase());
    const allow = [...methods, ...(methods.includes('GET') ? ['HEAD'] : [])].sort().join(', ');
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].filter(
      (one) => !methods.includes(one),
    )) {
      const response = await fetch(server.adminUrl + path.replaceAll(/\{\w+\}/g, 'x'), { method });
      const what = `${method} ${path}`;
      expect(response.headers.get('allow'), what).toBe(allow);
      expect(response.headers.get('content-type'), what).toContain('application/problem+json');
      expect(await response.json(), what).toMatchObject({ status: 405, code: 'USAGE_INVALID' });
      expect(response.status, what).toBe(405);
    }
  }
  expect((await ask('PUT', 'nothing')).status).toBe(404);
});

describe('an answer', () => {
  const app = fastify();
  const schema = { response: { 200: z.object({ id: z.string(), inner: z.object({ name: z.string() }) }) } };
  beforeAll(() => {
    answerByTheSchema(app);
    app.get('/more', { schema }, () => ({ id: 'a', secret: 'x', inner: { name: 'b', key_digest: 'y' } }));
    app.get('/less', { schema }, () => ({ id: 'a', inner: {} }));
    app.get('/other', { schema }, () => ({ id: 7, inner: { name: 'b' } }));
  });
  afterAll(() => app.close());

  it('loses what its schema does not have, and is none without what it has', async () => {
    expect((await app.inject('/more')).json()).toEqual({ id: 'a', inner: { name: 'b' } });
    for (const path of ['/less', '/other']) {
      const response = await app.inject(path);
      expect(response.statusCode).toBe(500);
      expect(response.json()).toMatchObject({ code: 'BUG_UNEXPECTED', detail: 'internal error' });
    }
  });

  it('has a schema in every operation, which allows nothing else', () => {
    const objectSchema = z.looseObject({ additionalProperties: z.unknown(), required: z.array(z.string()) });
    for (const [path, operations] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        const { responses } = operation as {
          responses: Record<string, { content?: Record<string, { schema: object }> }>;
        };
        const answers = Object.entries(responses).filter(([status]) => status.startsWith('2'));
        expect(answers.length, `${method} ${path}`).toBeGreaterThan(0);
        for (const [status, { content }] of answers) {
          // A file has no fields.
          if (status === '204' || content?.['application/octet-stream'] !== undefined) continue;
          const answer = objectSchema.parse(content?.['application/json']?.schema);
          expect(answer.additionalProperties, `${method} ${path}`).toBe(false);
        }
      }
    }
  });
});

it('the reference in docs/api.md is of this document; else run npm run generate:api', async () => {
  const written = await readFile(join(import.meta.dirname, '../../docs/api.md'), 'utf8');
  expect(written).toBe(await format(apiMarkdown(document), { parser: 'markdown' }));
});

it('the document is OpenAPI 3.1', async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(structuredClone(document));
  expect(errors ?? []).toEqual([]);
  expect(valid).toBe(true);
  expect(validator.version).toBe('3.1');
  const { valid: isStillValid } = await validator.validate({ ...document, paths: { x: {} } });
  expect(isStillValid).toBe(false);
});

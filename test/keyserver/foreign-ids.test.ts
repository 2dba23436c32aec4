/** What is not the caller's answers like what is not there, on every endpoint that names one thing, and to nodes. */
import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeJwt } from 'jose';
import type { PermissionSet } from '#src/wire/admin/permission.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let own: SoldProduct;
let foreign: SoldProduct;
let endpoints: { readonly method: string; readonly path: string }[];
/** Where things are kept and the name of a foreign one; a collection with a new path needs a row here. */
let foreignNames: Readonly<Record<string, string>>;
const nodes: LicensedNode[] = [];

/** What an endpoint needs to get as far as the thing that its path names. */
const BODIES: Readonly<Record<string, unknown>> = {
  '/v1/image-keys/{id}/elements': { items: [{ sealedOptions: 'x' }] },
  '/v1/licenses/{id}:check-out': { requests: ['x'] },
  '/v1/licenses/{id}/meters/{meter}': { max: 1 },
  '/v1/licenses/{id}/meters/{meter}:report': { reportId: 'x', amount: 1 },
};

beforeAll(async () => {
  server = await startKeyServer();
  [own, foreign] = [await createSoldProduct(server), await createSoldProduct(server)];
  const { license, licenseKey } = await foreign.sell();
  const node = await activateNode(server, licenseKey);
  nodes.push(node);
  const { joinToken } = await foreign.client.createJoinToken(license.id, { uses: 1, lifeMs: 3_600_000 });
  const { lease } = await node.acquire(foreign.image);
  const { apiToken } = await foreign.client.createToken({ name: 'other', permissionSet: 'auditor' });
  const release = (await foreign.client.releases()).find(
    ({ productCode }) => productCode === foreign.productCode,
  );
  foreignNames = {
    products: foreign.productCode,
    releases: release!.id,
    'image-keys': foreign.image.imageKeyId,
    customers: foreign.customerId,
    licenses: license.id,
    'join-tokens': joinToken.id,
    nodes: node.activation.nodeId,
    'api-tokens': apiToken.id,
    leases: decodeJwt<{ leaseId: string }>(lease).leaseId,
    sys: await rootKeySlot(),
    policies: await make('policies', { code: 'foreign-policy' }, ({ code }) => code),
    'webhook-endpoints': await make(
      'webhook-endpoints',
      { url: 'https://crm.acme.example/', events: ['license.revoke'] },
      ({ webhookEndpoint }) => webhookEndpoint.id,
    ),
  };
  const { paths } = (await (await fetch(`${server.adminUrl}/v1/openapi.json`)).json()) as {
    paths: Record<string, Record<string, unknown>>;
  };
  endpoints = Object.entries(paths)
    .filter(([path]) => path.includes('{'))
    .flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => ({ method: method.toUpperCase(), path })),
    );
});

afterAll(async () => {
  for (const node of nodes) node.close();
  await server.dispose();
});

const collectionOf = (path: string) => path.split('/')[2] ?? '';

async function send(token: string, method: string, path: string, body: unknown) {
  const hasBody = method !== 'GET' && method !== 'DELETE';
  const response = await fetch(server.adminUrl + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(hasBody ? { 'content-type': 'application/json' } : {}),
    },
    ...(hasBody ? { body: JSON.stringify(body) } : {}),
  });
  const headers = Object.fromEntries(response.headers);
  delete headers['date'];
  return { status: response.status, headers, text: await response.text() };
}

async function rootKeySlot(): Promise<string> {
  const { text } = await send(server.adminToken, 'GET', '/v1/sys/seal-status', {});
  return (JSON.parse(text) as { slots: { id: string }[] }).slots[0]!.id;
}

async function make(
  collection: string,
  body: unknown,
  nameOf: (answer: { code: string; webhookEndpoint: { id: string } }) => string,
): Promise<string> {
  const { status, text } = await send(server.adminToken, 'POST', `/v1/${collection}`, body);
  expect(status, text).toBeLessThan(300);
  return nameOf(JSON.parse(text) as Parameters<typeof nameOf>[0]);
}

/** The answer about a thing, with its name taken out. */
async function answerAbout(token: string, { method, path }: { method: string; path: string }, name: string) {
  const answer = await send(
    token,
    method,
    path.replace(/\{\w+\}/, name).replace(/\{\w+\}/, 'starts'),
    BODIES[path] ?? {},
  );
  return { ...answer, text: answer.text.replaceAll(name, 'NAME') };
}

const PARTS: readonly (readonly [PermissionSet, 'product' | 'customer'])[] = [
  ['license-admin', 'product'],
  ['license-admin', 'customer'],
  ['release', 'product'],
  ['customer-support', 'product'],
  ['customer-support', 'customer'],
];

describe('an endpoint that names one thing', () => {
  it('is of a collection that this test has a foreign thing of', () => {
    expect(new Set(endpoints.map(({ path }) => collectionOf(path)))).toEqual(
      new Set(Object.keys(foreignNames)),
    );
  });

  it.each(PARTS)(
    'answers a token for %s of one %s alike for foreign and unknown',
    async (permissionSet, part) => {
      const { token } = await own.client.createToken({
        ...{ name: 'part', permissionSet },
        ...(part === 'product' ? { product: own.productCode } : { customer: own.customerId }),
      });
      let found = 0;
      for (const endpoint of endpoints) {
        const name = foreignNames[collectionOf(endpoint.path)] ?? '';
        // As long as the other, and with the same beginning, as ids of one kind have.
        const unknown = name.slice(0, -6) + 'zzzzzz';
        const about = await answerAbout(token, endpoint, name);
        expect([403, 404], `${endpoint.method} ${endpoint.path}: ${about.text}`).toContain(about.status);
        expect(await answerAbout(token, endpoint, unknown), endpoint.path).toEqual(about);
        if (about.status === 404) found += 1;
      }
      // Not everything was refused before anybody looked.
      expect(found).toBeGreaterThan(0);
    },
  );

  it.each([
    ['/v1/image-keys', (productCode: string) => ({ productCode })],
    [
      '/v1/releases',
      (productCode: string) => ({
        ...{ productCode, repository: 'r.example/a', version: '2', imageKeyId: 'ik-x', sealedImageKey: 'x' },
        imageDigests: [foreign.image.imageDigest],
      }),
    ],
  ])('and so does one that names it in the body: POST %s', async (path, bodyFor) => {
    const { token } = await own.client.createToken({
      ...{ name: 'ci', permissionSet: 'release', product: own.productCode },
    });
    const answers = [];
    for (const name of [foreign.productCode, 'web-zzzzzzzz']) {
      const { status, text } = await send(token, 'POST', path, bodyFor(name));
      answers.push({ status, text: text.replaceAll(name, 'NAME') });
    }
    expect(answers[0]).toMatchObject({ status: 404 });
    expect(answers[1]).toEqual(answers[0]);
  });
});

describe('a node', () => {
  async function twoNodes() {
    const mine = await activateNode(server, (await own.sell()).licenseKey);
    const { license, licenseKey } = await own.sell();
    const other = await activateNode(server, licenseKey);
    nodes.push(mine, other);
    const { lease } = await other.acquire(own.image);
    return { mine, licenseId: license.id, leaseId: decodeJwt<{ leaseId: string }>(lease).leaseId };
  }

  it('is told the same about the lease of another node and one that is not there', async () => {
    const { mine, leaseId } = await twoNodes();
    const unknown = leaseId.slice(0, -6) + 'zzzzzz';
    const { results } = await mine.renew([leaseId, unknown]);
    const denials = results.map((result) => JSON.stringify(result).replaceAll(result.leaseId, 'LEASE'));
    expect(denials[0]).toContain('DENIED_LEASE_INVALID');
    expect(denials[1]).toBe(denials[0]);
  });

  it('is told the same about the license of another node and one that is not there', async () => {
    const { mine, licenseId } = await twoNodes();
    const unknown = licenseId.slice(0, -6) + 'zzzzzz';
    const report = async (id: string) => {
      const request = {
        ...{ licenseId: id, epoch: 1, denialCode: 'DENIED_LICENSE_REVOKED', startsRefusedAtMs: 1 },
        ...{ runningContainers: 0, plaintextLayers: 0, plaintextGoneAtMs: 0, nodeTimeMs: Date.now() },
      };
      const call = callUnary(mine.client.reportPlaintext.bind(mine.client), request, new Metadata(), {});
      return call.then(
        () => 'taken',
        (error: unknown) => fromGrpcError(error, 'key server').line.replaceAll(id, 'LICENSE'),
      );
    };
    const about = await report(licenseId);
    expect(about).not.toBe('taken');
    expect(await report(unknown)).toBe(about);
  });
});

/** Every RPC, and what docs/operations.md ("Sealing") says of the admin API, on a key server that is sealed. */
import { Client, type MethodDefinition, type ServiceDefinition, credentials } from '@grpc/grpc-js';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReleaseInput } from '#src/wire/admin/release.ts';
import { EnrollmentService, NodesService } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { SealClient } from '../../cli/seal-client.ts';
import { WebhookClient } from '../../cli/webhook-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { offlineRequest } from '../fakes/offline-node.ts';
import { statementTextFor } from '../fakes/release-statement.ts';
import { createSoldProduct, randomDigest, sealImageKey } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let node: LicensedNode;
let enrollment: Client;
/** What stands in the paths and bodies below. */
let names: Readonly<Record<string, string>>;
let release: ReleaseInput;

beforeAll(async () => {
  server = await startKeyServer();
  const sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  node = await activateNode(server, licenseKey);
  await node.acquire(sold.image);
  const { client, image } = sold;
  const { joinToken } = await client.createJoinToken(license.id, {});
  const { apiToken } = await client.createToken({ name: 'ci', permissionSet: 'release' });
  const webhooks = new WebhookClient({ serverUrl: server.adminUrl, token: server.adminToken });
  const { webhookEndpoint } = await webhooks.create({ url: 'https://hooks.example/', events: ['*'] });
  const sealClient = new SealClient(server.adminUrl, new AbortController().signal);
  const { organizationId, slots } = await sealClient.status();
  const rootKey = (await readFile(join(server.dataDirectory, 'root.key'), 'utf8')).trim();
  names = {
    ...{ product: sold.productCode, customer: sold.customerId, license: license.id },
    release: (await client.releases())[0]?.id ?? '',
    ...{ node: node.activation.nodeId, key: image.imageKeyId, digest: image.imageDigest },
    ...{ joinToken: joinToken.id, apiToken: apiToken.id, webhook: webhookEndpoint.id },
    ...{ slot: slots[0]?.id ?? '', rootKey, organization: organizationId },
    offlineRequest: offlineRequest(await createNodeKey()),
    sealedOptions: await sealImageKey(client, image.imageKeyId, new Uint8Array(32)),
  };
  const [imageDigest, imageKeyId] = [randomDigest(), 'ik-sealed'];
  release = {
    ...{ productCode: sold.productCode, repository: 'registry.example/acme/web', version: '2.0.0' },
    ...{ imageDigests: [imageDigest], imageKeyId },
    sealedImageKey: await sealImageKey(client, imageKeyId, new Uint8Array(32)),
    statement: statementTextFor(imageDigest, { productCode: sold.productCode, organizationId, imageKeyId }),
  };
  enrollment = new Client(server.enrollAddress, credentials.createSsl(Buffer.from(server.authorityPem)));
  await client.seal({ organizationId, reason: 'a test' });
});

afterAll(async () => {
  node.close();
  enrollment.close();
  await server.dispose();
});

/** The code of the refusal of an empty request, or `OK`. */
function answerTo(client: Client, definition: MethodDefinition<object, object>): Promise<string> {
  const { path, requestSerialize, responseDeserialize, requestDeserialize, responseStream } = definition;
  const request = requestDeserialize(Buffer.alloc(0));
  return new Promise((resolve) => {
    const settle = (error: unknown) => {
      resolve(error === null ? 'OK' : (fromGrpcError(error, 'key server') as { code: string }).code);
    };
    if (!responseStream) {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, settle);
      return;
    }
    const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    stream.on('error', settle);
    stream.on('data', () => {
      resolve('OK');
    });
  });
}

const rpcsOf = (service: ServiceDefinition) =>
  Object.entries(service) as [string, MethodDefinition<object, object>][];

describe('a sealed key server', () => {
  it.each(rpcsOf(NodesService))('turns a node away: %s', async (_name, definition) => {
    expect(await answerTo(node.client, definition)).toBe('DENIED_SEALED');
  });

  it.each(rpcsOf(EnrollmentService))('turns who wants to be a node away: %s', async (_name, definition) => {
    expect(await answerTo(enrollment, definition)).toBe('DENIED_SEALED');
  });
});

/** @param text with the names of things in angle brackets */
const filled = (text: string) => text.replaceAll(/<(\w+)>/gu, (_all, name: string) => names[name] ?? '');

/** The code of a refusal, or `OK`. */
async function send(endpoint: string, body: object | null, headers: Record<string, string> = {}) {
  const [method = '', path = ''] = filled(endpoint).split(' ');
  const response = await fetch(`${server.adminUrl}/v1/${path}`, {
    method,
    headers: {
      authorization: `Bearer ${server.adminToken}`,
      ...(body === null ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    body: body === null ? null : filled(JSON.stringify(body)),
  });
  const text = await response.text();
  return response.ok ? 'OK' : (JSON.parse(text) as { code: string }).code;
}

const CUSTOMER = { name: 'Hooli' };
const LICENSE = { customer: '<customer>', product: '<product>' };

describe('what needs a key waits', () => {
  it.each([
    ['POST licenses', LICENSE],
    ['POST image-keys', { productCode: '<product>' }],
    ['POST webhook-endpoints', { url: 'https://hooks.example/', events: ['*'] }],
    ['GET audit-checkpoint', null],
    ['POST sys/backup', null],
    ['POST sys/slots/<slot>/remove', { proof: { rootKey: '<rootKey>' } }],
    ['POST sys/slots', { label: 'safe', shares: 3, threshold: 2, proof: { rootKey: '<rootKey>' } }],
    // Whoever has nothing that opens the root key hears the same.
    ['POST sys/slots/<slot>/remove', { proof: { rootKey: '0'.repeat(64) } }],
    ['POST sys/slots', { label: 'safe', shares: 3, threshold: 2, proof: { rootKey: '0'.repeat(64) } }],
    ['POST licenses/<license>:check-out', { requests: ['<offlineRequest>'] }],
    ['POST image-keys/<key>/elements', { items: [{ sealedOptions: '<sealedOptions>' }] }],
    ['POST audit-events:conceal', { text: 'Jane Doe' }],
    ['POST audit-events:shred', { organizationId: '<organization>' }],
  ])('%s', async (endpoint, body) => {
    expect(await send(endpoint, body)).toBe('DENIED_SEALED');
  });

  it('POST releases', async () => {
    expect(await send('POST releases', release)).toBe('DENIED_SEALED');
  });

  it.each([
    ['POST customers', CUSTOMER],
    ['POST products', { code: 'repeated', name: 'Repeated' }],
    ['POST api-tokens', { name: 'repeated', permissionSet: 'release' }],
    ['POST licenses/<license>/join-tokens', {}],
  ])('%s with an Idempotency-Key', async (endpoint, body) => {
    expect(await send(endpoint, body, { 'idempotency-key': endpoint.replaceAll(' ', '-') })).toBe(
      'DENIED_SEALED',
    );
  });
});

describe('what needs none goes on', () => {
  // In an order in which each is possible.
  it.each([
    'GET organization',
    'GET products/<product>',
    'GET customers/<customer>',
    'GET licenses/<license>',
    'GET licenses/<license>/nodes',
    'GET nodes/<node>',
    'GET image-keys/<key>',
    'GET releases/<release>',
    'GET audit-events',
    'GET audit-exports',
    'GET webhook-endpoints/<webhook>/attempts',
    'POST licenses/<license>:suspend',
    'POST licenses/<license>:reinstate',
    'POST customers/<customer>:block',
    'POST customers/<customer>:unblock',
    'POST nodes/<node>:ban',
    'POST nodes/<node>:unban',
    'POST nodes/<node>:readmit',
    'POST nodes/<node>:retire',
    'POST image-keys/<key>/schedule-destruction',
    'POST image-keys/<key>/cancel-destruction',
    'POST releases/<release>:yank',
    'POST join-tokens/<joinToken>:revoke',
    'DELETE api-tokens/<apiToken>',
    'POST webhook-endpoints/<webhook>:disable',
    'POST webhook-endpoints/<webhook>:enable',
    'DELETE webhook-endpoints/<webhook>',
    'POST licenses/<license>:revoke',
  ])('%s', async (endpoint) => {
    const isChange = /^POST licenses\/.+:(?:suspend|reinstate|revoke)$/u.test(endpoint);
    const body = isChange ? { reason: 'unpaid' } : endpoint.includes('schedule') ? {} : null;
    expect(await send(endpoint, body)).toBe('OK');
  });
});

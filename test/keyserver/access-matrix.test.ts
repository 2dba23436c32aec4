/** Every permission set against every endpoint, and every kind of caller against every RPC, on the real server. */
import { Client, Metadata, type ServiceDefinition, credentials } from '@grpc/grpc-js';
import { X509Certificate, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PERMISSIONS, PERMISSION_SET_NAMES, type PermissionSet } from '#src/wire/admin/permission.ts';
import {
  NodesService,
  type RenewLeasesResponse,
  type WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, createSoldProduct } from '../fakes/sold-product.ts';
import { OPEN_TO_ALL, OPEN_TO_A_PART, WHO_MAY } from './who-may.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let endpoints: string[];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  const { paths } = (await (await fetch(`${server.adminUrl}/v1/openapi.json`)).json()) as {
    paths: Record<string, Record<string, unknown>>;
  };
  endpoints = Object.entries(paths)
    .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`))
    .filter((endpoint) => !OPEN_TO_ALL.includes(endpoint));
});

afterAll(() => server.dispose());

/** Sends what no endpoint can do anything with; only whether the caller is let in matters. */
async function statusOf(endpoint: string, token: string | null): Promise<number> {
  const [method = '', path = ''] = endpoint.split(' ');
  const hasBody = method === 'POST' || method === 'PATCH';
  const response = await fetch(server.adminUrl + path.replaceAll(/\{\w+\}/g, 'nobody'), {
    method,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(hasBody ? { 'content-type': 'application/json' } : {}),
    },
    ...(hasBody ? { body: '{}' } : {}),
  });
  await response.arrayBuffer();
  return response.status;
}

async function allowedTo(token: string): Promise<string[]> {
  const allowed: string[] = [];
  for (const endpoint of endpoints) {
    const status = await statusOf(endpoint, token);
    expect(status, endpoint).not.toBe(401);
    expect(status, endpoint).toBeLessThan(500);
    if (status !== 403) allowed.push(endpoint);
  }
  return allowed.sort();
}

const expectedFor = (permissionSet: PermissionSet) =>
  Object.keys(WHO_MAY)
    .filter((endpoint) => WHO_MAY[endpoint]?.split(' ').includes(permissionSet))
    .sort();

describe('the admin API', () => {
  it('has an endpoint for each permission', async () => {
    const text = await (await fetch(`${server.adminUrl}/v1/openapi.json`)).text();
    expect(PERMISSIONS.filter((permission) => !text.includes(`permission ${permission}.`))).toEqual([]);
  });

  it('has a row for each endpoint', () => {
    expect(endpoints.toSorted()).toEqual(Object.keys(WHO_MAY).sort());
  });

  it.each(PERMISSION_SET_NAMES)('lets %s do what its set holds and nothing else', async (permissionSet) => {
    const { token } = await sold.client.createToken({ name: permissionSet, permissionSet });
    expect(await allowedTo(token)).toEqual(expectedFor(permissionSet));
  });

  it.each(['license-admin', 'release', 'customer-support', 'metering'] as const)(
    'keeps %s of one product to what can be filtered',
    async (permissionSet) => {
      const { token } = await sold.client.createToken({
        name: permissionSet,
        permissionSet,
        product: sold.productCode,
      });
      const expected = expectedFor(permissionSet).filter((endpoint) => OPEN_TO_A_PART.has(endpoint));
      expect(await allowedTo(token)).toEqual(expected);
    },
  );

  it('lets nobody in without a token, or with one that is revoked', async () => {
    const { apiToken, token } = await sold.client.createToken({ name: 'gone', permissionSet: 'admin' });
    await sold.client.revokeToken(apiToken.id);
    for (const endpoint of endpoints) {
      for (const nobody of [null, token, 'lkt_unknown'])
        // The latter is told only to who is nobody, and keeps coming.
        expect([401, 429], endpoint).toContain(await statusOf(endpoint, nobody));
    }
  });
});

/** A well-formed request for each method: a refusal is then about who asks. A new method needs a row here. */
const REQUESTS: Readonly<Record<string, (node: LicensedNode | null) => object>> = {
  acquireLease: () => ({
    imageDigest: sold.image.imageDigest,
    imageKeyId: sold.image.imageKeyId,
    nonce: randomBytes(16),
    nodeTimeMs: Date.now(),
  }),
  renewLeases: () => ({ leaseIds: ['lease_unknown'], nodeTimeMs: Date.now() }),
  watchRevocations: () => ({ afterRevision: 0 }),
  listChanges: () => ({ afterRevision: 0 }),
  openSession: () => ({ isRunning: false, requestId: 'r', machine: 'm', boot: 'b', bootTimeMs: 1 }),
  reportPlaintext: () => ({ licenseId: 'license_unknown', denialCode: 'DENIED_LICENSE_REVOKED' }),
  preflight: () => ({ imageDigest: sold.image.imageDigest, nodeTimeMs: Date.now() }),
  acknowledgeRevocations: () => ({ revision: 1 }),
  reportUsage: () => ({ meter: 'api-calls', reportId: 'r', amount: 1 }),
  rotateCertificate: (node) => ({ certificateRequestDer: node?.key.requestDer ?? Buffer.alloc(1) }),
};
/** A banned node says what it still holds and that it has heard, and should. */
const OPEN_TO_BANNED = new Set(['reportPlaintext', 'acknowledgeRevocations']);

/** Calls a method over a new connection; gives the code of the refusal, or `OK`. */
function codeOf(method: string, node: LicensedNode | null): Promise<string> {
  const definition = (NodesService as ServiceDefinition)[method]!;
  const authority = Buffer.from(server.authorityPem);
  const client = new Client(
    server.nodeAddress,
    node === null
      ? credentials.createSsl(authority)
      : credentials.createSsl(
          authority,
          Buffer.from(node.key.privateKey.export({ type: 'pkcs8', format: 'pem' })),
          Buffer.from(new X509Certificate(node.activation.certificateDer).toString()),
        ),
  );
  const empty = definition.requestDeserialize(Buffer.alloc(0)) as object;
  const request = { ...empty, ...REQUESTS[method]?.(node) };
  return new Promise<string>((resolve) => {
    const settle = (error: unknown) => {
      resolve(
        error === null || error === undefined
          ? 'OK'
          : (fromGrpcError(error, 'key server') as { code: string }).code,
      );
    };
    const options = { deadline: Date.now() + 60_000 };
    if (definition.responseStream) {
      const stream = client.makeServerStreamRequest(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        request,
        new Metadata(),
        options,
      );
      stream.on('error', settle);
      // What a refused node has to know comes before the refusal.
      stream.on('data', ({ event }: WatchRevocationsResponse) => {
        if (event?.$case !== 'heartbeat') return;
        settle(null);
        stream.cancel();
      });
    } else {
      client.makeUnaryRequest(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        request,
        new Metadata(),
        options,
        (error: unknown, answer: unknown) => {
          const [result] = (answer as Partial<RenewLeasesResponse> | undefined)?.results ?? [];
          if (result?.outcome?.$case === 'denial') resolve(result.outcome.value.code);
          else settle(error);
        },
      );
    }
  }).finally(() => {
    client.close();
  });
}

describe('every RPC of a node', () => {
  const methods = Object.keys(NodesService);
  const nodes: Record<string, LicensedNode> = {};
  beforeAll(async () => {
    for (const name of ['active', 'banned', 'retired']) {
      const { licenseKey } = await sold.sell();
      nodes[name] = await activateNode(server, licenseKey, { key: await createNodeKey(name), name });
    }
    const admin = adminClient(server);
    await admin.changeNode(nodes['banned']!.activation.nodeId, 'ban');
    await admin.changeNode(nodes['retired']!.activation.nodeId, 'retire');
  });
  afterAll(() => {
    for (const node of Object.values(nodes)) node.close();
  });

  it('has a request for each', () => {
    expect(Object.keys(REQUESTS).sort()).toEqual(methods.toSorted());
  });

  it.each(methods)('%s refuses who has no certificate', async (method) => {
    expect(await codeOf(method, null)).toMatch(/^(?:NET_|DENIED_NODE_NOT_ACTIVATED)/);
  });

  it.each(methods)('%s refuses a banned and a retired node, and lets an active one in', async (method) => {
    const answers = {
      banned: await codeOf(method, nodes['banned']!),
      retired: await codeOf(method, nodes['retired']!),
      active: await codeOf(method, nodes['active']!),
    };
    if (OPEN_TO_BANNED.has(method)) expect(answers.banned).not.toMatch(/^DENIED_/);
    else expect(answers).toMatchObject({ banned: 'DENIED_NODE_BANNED', retired: 'DENIED_NODE_RETIRED' });
    expect(answers.active).not.toMatch(/^(?:DENIED_NODE|NET_|AUTH_)/);
  });
});

/** Every permission set against every endpoint, and every kind of caller against every RPC, on the real server. */
import { Client, Metadata, type ServiceDefinition, credentials } from '@grpc/grpc-js';
import { X509Certificate, randomBytes, sign } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NODE_STATES } from '#src/licensing/node-state.ts';
import { nodeProofStatement } from '#src/licensing/node-proof.ts';
import { PERMISSIONS, PERMISSION_SET_NAMES, type PermissionSet } from '#src/wire/admin/permission.ts';
import {
  EnrollmentService,
  NodesService,
  type RenewLeasesResponse,
  type WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { changeServerDatabase } from '../../lab/server-database.ts';
import { authenticateAt, challengeAt } from '../../shim/agent/key-server.ts';
import { type LicensedNode, type NodeKey, activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';
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
/** Who is shut out says what it still holds and that it has heard, and should. */
const OPEN_TO_SHUT_OUT = new Set(['reportPlaintext', 'acknowledgeRevocations']);

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

/** What a node in a state is told. */
const REFUSALS = {
  active: null,
  banned: 'DENIED_NODE_BANNED',
  retired: 'DENIED_NODE_RETIRED',
  restored: 'DENIED_NODE_RESTORED',
  cloned: 'DENIED_NODE_CLONED',
} as const;
type State = keyof typeof REFUSALS;
const STATES = Object.keys(REFUSALS) as State[];

describe('every RPC', () => {
  const methods = Object.keys(NodesService);
  const nodes = new Map<State, LicensedNode>();
  const credentialsOf = new Map<State, Readonly<Record<'license key' | 'join token', string>>>();
  const nodeIn = (state: State) => nodes.get(state)!;

  beforeAll(async () => {
    for (const name of STATES) {
      const { license, licenseKey } = await sold.sell();
      const { token } = await sold.client.createJoinToken(license.id, {});
      nodes.set(name, await activateNode(server, licenseKey, { key: await createNodeKey(name), name }));
      credentialsOf.set(name, { 'license key': licenseKey, 'join token': token });
    }
    const idOf = (state: State) => nodeIn(state).activation.nodeId;
    await sold.client.changeNode(idOf('banned'), 'ban');
    await sold.client.changeNode(idOf('retired'), 'retire');
    // What a node would have to do wrong for.
    await server.stop();
    const { dataDirectory } = server;
    for (const state of ['restored', 'cloned'] as const) {
      const change = `update node set state = '${state.toUpperCase()}' where id = '${idOf(state)}'`;
      await changeServerDatabase(dataDirectory, change);
    }
    server = await startKeyServer({ dataDirectory });
  });
  afterAll(() => {
    for (const node of nodes.values()) node.close();
  });

  it('has a row for each state', () => {
    expect(STATES.map((state) => state.toUpperCase())).toEqual(NODE_STATES);
  });

  it('has a request for each', () => {
    expect(Object.keys(REQUESTS).sort()).toEqual(methods.toSorted());
    expect(Object.keys(EnrollmentService).sort()).toEqual(['activate', 'authenticate', 'challenge']);
  });

  it.each(methods)('%s refuses who has no certificate', async (method) => {
    expect(await codeOf(method, null)).toMatch(/^(?:NET_|DENIED_NODE_NOT_ACTIVATED)/);
  });

  it.each(methods)('%s lets an active node in and no other', async (method) => {
    for (const state of STATES) {
      const code = await codeOf(method, nodeIn(state));
      const refusal = OPEN_TO_SHUT_OUT.has(method) ? null : REFUSALS[state];
      if (refusal === null) expect(code, state).not.toMatch(/^(?:DENIED_NODE|NET_|AUTH_)/);
      else expect(code, state).toBe(refusal);
    }
  });

  const told = (call: Promise<unknown>) =>
    call.then(
      () => null,
      (error: unknown) => (error as { code: string }).code,
    );

  async function authenticate(node: LicensedNode, signer: NodeKey): Promise<unknown> {
    const { nodeId } = node.activation;
    const nonce = await challengeAt(server.enrollAddress, server.authorityPem);
    const { requestDer } = await createNodeKey();
    const statement = nodeProofStatement({ nodeId, certificateRequest: requestDer, nonce });
    const signature = sign('sha256', statement, { key: signer.privateKey, dsaEncoding: 'ieee-p1363' });
    const request = { nodeId, nonce, signature, certificateRequestDer: requestDer };
    return authenticateAt(server.enrollAddress, server.authorityPem, request);
  }

  it.each(STATES)('challenge and authenticate tell a node that is %s, and who is not it', async (state) => {
    const node = nodeIn(state);
    expect(await told(authenticate(node, node.key))).toBe(REFUSALS[state]);
    expect(await told(authenticate(node, await createNodeKey()))).toBe('DENIED_NODE_UNKNOWN');
  });

  // Those that are let in are active from then on, hence the order.
  it.each([
    ...STATES.map((state) => ['join token', state, state === 'retired' ? null : REFUSALS[state]] as const),
    ['license key', 'active', null],
    ['license key', 'banned', REFUSALS.banned],
    ['license key', 'cloned', REFUSALS.cloned],
    // Whoever has the license key mends it.
    ['license key', 'restored', null],
  ] as const)('activate with a %s tells a node that is %s: %s', async (credential, state, refusal) => {
    const { key } = nodeIn(state);
    const again = activateNode(server, credentialsOf.get(state)![credential], { key, name: state });
    expect(await told(again.then((node) => node.close()))).toBe(refusal);
  });
});

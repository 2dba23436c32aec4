import { X509Certificate, randomBytes } from 'node:crypto';
import { Metadata, type MethodDefinition, type ServiceError, credentials } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RetryInfo } from '#src/wire/generated/google/rpc/error_details.ts';
import { Status } from '#src/wire/generated/google/rpc/status.ts';
import { EnrollmentClient, NodesService } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import { LICENSE_KEY_BYTES, formatLicenseKey } from '#src/licensing/license-key.ts';
import { ADDRESS_RATE, FAILED_AUTHENTICATIONS_RATE } from '../../keyserver/limits.ts';
import { RateLimit, addressGroup, hostOfPeer } from '../../keyserver/rate-limit.ts';
import { DEFAULT_RATES, parseRates } from '../../keyserver/rates.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { connectKeyServer } from '../../shim/agent/key-server.ts';
import { type LicensedNode, activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { manualClock } from '../fakes/manual-clock.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

function limitAt(rate: { perSecond: number; burst: number }, maxCallers?: number) {
  const clock = manualClock();
  const limit = new RateLimit(rate, clock, maxCallers);
  const taken = (caller: string, times: number) =>
    Array.from({ length: times }, () => limit.take(caller)).filter((waitMs) => waitMs === 0).length;
  return { clock, limit, taken };
}

describe('a rate limit', () => {
  it('lets a burst through, then so many a second, and saves up no more than the burst', () => {
    const { clock, taken } = limitAt({ perSecond: 2, burst: 5 });
    expect(taken('192.0.2.1', 9)).toBe(5);
    clock.advance(1000);
    expect(taken('192.0.2.1', 9)).toBe(2);
    clock.advance(3_600_000);
    expect(taken('192.0.2.1', 9)).toBe(5);
  });

  it('counts callers apart, and remembers a bounded number of them', () => {
    const { taken } = limitAt({ perSecond: 1, burst: 1 }, 2);
    for (const caller of ['192.0.2.1', '192.0.2.2']) expect(taken(caller, 2)).toBe(1);
    expect(taken('192.0.2.1', 1)).toBe(0);
    expect(taken('192.0.2.3', 2)).toBe(1);
    // 192.0.2.2 was quiet the longest and is forgotten.
    expect(taken('192.0.2.2', 1)).toBe(1);
  });

  it('says how long to wait: who does is let in, who comes earlier is not (property)', () => {
    const rate = fc.record({
      perSecond: fc.integer({ min: 1, max: 1000 }),
      burst: fc.integer({ min: 1, max: 20 }),
    });
    fc.assert(
      fc.property(rate, (limits) => {
        const { clock, limit, taken } = limitAt(limits);
        expect(taken('node', limits.burst)).toBe(limits.burst);
        const waitMs = limit.take('node');
        expect(waitMs).toBeGreaterThan(0);
        clock.advance(waitMs - 1);
        expect(limit.take('node')).toBe(1);
        clock.advance(1);
        expect(limit.take('node')).toBe(0);
      }),
    );
  });
});

describe('an address', () => {
  it.each([
    ['192.0.2.1:4711', '192.0.2.1'],
    ['::ffff:192.0.2.1:4711', '192.0.2.1'],
    ['[::ffff:192.0.2.1]:4711', '192.0.2.1'],
    ['2001:db8:1:2:aaaa::1:4711', '2001:db8:1:2::/64'],
    ['[2001:DB8:1:2::7]:4711', '2001:db8:1:2::/64'],
    ['2001:db8:0001:0002:1:2:3:4:80', '2001:db8:1:2::/64'],
    ['[::1]:80', '0:0:0:0::/64'],
    ['[fe80::1%eth0]:80', 'fe80:0:0:0::/64'],
    ['unix:', 'unix'],
  ])('%s counts as %s', (peer, group) => {
    expect(addressGroup(hostOfPeer(peer))).toBe(group);
  });
});

describe('the setting of a rate', () => {
  it('is of its own name, the others stay as they are', () => {
    expect(parseRates(['node=0.5/3', 'token=7/9', 'node=2/3'])).toEqual({
      ...DEFAULT_RATES,
      node: { perSecond: 2, burst: 3 },
      token: { perSecond: 7, burst: 9 },
    });
  });

  it.each([
    '',
    'node',
    'node=1',
    'node=0/5',
    'node=1/0',
    'node=-1/5',
    'nodes=1/5',
    '__proto__=1/5',
    'node=1e3/5',
    'node=1/9999999',
    'node=1/5 ',
  ])('is refused: %j', (setting) => {
    expect(() => parseRates([setting])).toThrow(expect.objectContaining({ code: 'USAGE_INVALID' }) as Error);
  });
});

const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => 'OK',
    (error: unknown) => (error as { code: string }).code,
  );

describe('a key server with its own limits', () => {
  let server: TestKeyServer;
  beforeAll(async () => {
    server = await startKeyServer();
  });
  afterAll(() => server.dispose());

  it('refuses a flood of activations from one address before it writes anything', async () => {
    const key = await createNodeKey();
    const licenseKey = formatLicenseKey(randomBytes(LICENSE_KEY_BYTES));
    const calls = 4 * ADDRESS_RATE.burst;
    // Over one connection, so that the calls come faster than tokens do.
    const client = new EnrollmentClient(
      server.enrollAddress,
      credentials.createSsl(Buffer.from(server.authorityPem)),
    );
    const request = {
      ...{ licenseKey, joinToken: '', certificateRequestDer: key.requestDer, nodeName: 'node-1' },
      ...{ installation: '', nodeTimeMs: Date.now() },
    };
    const activateOnce = async () => {
      const answer = callUnary(client.activate.bind(client), request, new Metadata(), {});
      return answer.then(
        () => 'activated',
        (error: unknown) => fromGrpcError(error, 'key server').code,
      );
    };
    const codes = await Promise.all(Array.from({ length: calls }, activateOnce));
    client.close();
    const refused = codes.filter((code) => code === 'RATE_LIMITED').length;
    expect(refused).toBeGreaterThan(0);
    const denied = codes.filter((code) => code === 'DENIED_LICENSE_NOT_FOUND').length;
    expect(refused + denied).toBe(calls);
    const events = await auditLog(adminClient(server));
    expect(events.filter(({ action }) => action === 'node.activate')).toHaveLength(denied);
  });

  it('tells who keeps coming without a valid token to wait, and serves who has one', async () => {
    const ask = async (token: string) => {
      const response = await fetch(`${server.adminUrl}/v1/products`, {
        headers: { authorization: `Bearer ${token}` },
      });
      await response.arrayBuffer();
      return { status: response.status, retryAfter: response.headers.get('retry-after') };
    };
    const { burst } = FAILED_AUTHENTICATIONS_RATE;
    const answers = await Promise.all(Array.from({ length: 2 * burst }, () => ask('lkt_wrong')));
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.every(({ retryAfter }) => Number(retryAfter) > 0)).toBe(true);
    expect(answers.filter(({ status }) => status === 401).length).toBeGreaterThanOrEqual(burst);
    expect((await ask(server.adminToken)).status).toBe(200);
  });
});

describe('a key server with low limits', () => {
  let server: TestKeyServer;
  let sold: SoldProduct;
  const nodes: LicensedNode[] = [];
  beforeAll(async () => {
    server = await startKeyServer({
      // A wait that is there when the next call comes, and one that nobody waits for.
      args: ['node=2/4', 'license=0.01/6', 'token=1/40'].flatMap((rate) => ['--rate-limit', rate]),
    });
    sold = await createSoldProduct(server);
  });
  afterAll(async () => {
    for (const node of nodes) node.close();
    await server.dispose();
  });

  async function newNode(licenseKey?: string): Promise<LicensedNode> {
    const node = await activateNode(server, licenseKey ?? (await sold.sell()).licenseKey);
    nodes.push(node);
    return node;
  }

  const listChanges = (node: LicensedNode) =>
    callUnary(
      node.client.listChanges.bind(node.client),
      { afterRevision: 0, position: undefined },
      new Metadata(),
      {},
    );

  /** Calls until one is refused. */
  async function refusalOf(node: LicensedNode): Promise<ServiceError> {
    for (let calls = 0; calls < 50; calls += 1) {
      try {
        await listChanges(node);
      } catch (error) {
        return error as ServiceError;
      }
    }
    throw new Error('no call was refused');
  }

  it('refuses one node, says when to come back, and serves the others', async () => {
    const [busy, quiet] = [await newNode(), await newNode()];
    const refusal = await refusalOf(busy);
    const error = fromGrpcError(refusal, 'key server');
    expect(error).toMatchObject({ code: 'RATE_LIMITED', message: 'too many calls of this node' });
    expect(error.retryAfterMs).toBeGreaterThan(0);
    // What any gRPC program reads.
    const [details] = refusal.metadata.get('grpc-status-details-bin');
    const [retryInfo] = Status.decode(details as Buffer).details;
    expect(retryInfo?.typeUrl).toBe('type.googleapis.com/google.rpc.RetryInfo');
    const { seconds, nanos } = RetryInfo.decode(retryInfo!.value).retryDelay!;
    expect(seconds * 1000 + nanos / 1_000_000).toBe(error.retryAfterMs);
    await listChanges(quiet);
    await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs));
    await listChanges(busy);
  });

  it.each(Object.entries(NodesService))('counts %s', async (_name, definition) => {
    const { client } = await newNode();
    const ask = () =>
      new Promise<string>((resolve) => {
        const settle = (error: unknown) => {
          resolve(error === null ? 'OK' : (fromGrpcError(error, 'key server') as { code: string }).code);
        };
        const { path, requestSerialize, responseDeserialize } = definition as MethodDefinition<
          object,
          object
        >;
        const request = definition.requestDeserialize(Buffer.alloc(0));
        if (!definition.responseStream) {
          client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, settle);
          return;
        }
        const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
        stream.on('error', settle);
        stream.on('data', () => undefined);
      });
    const codes: string[] = [];
    for (let calls = 0; calls < 12; calls += 1) void ask().then((code) => codes.push(code));
    await expect.poll(() => codes, { timeout: 60_000 }).toContain('RATE_LIMITED');
  });

  it('is waited for by an agent', async () => {
    const node = await newNode();
    const agent = connectKeyServer(server.nodeAddress, {
      authorityPem: server.authorityPem,
      certificatePem: new X509Certificate(node.activation.certificateDer).toString(),
      privateKeyPem: node.key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    });
    await refusalOf(node);
    const answers = [1, 2, 3].map(() => codeOf(agent.listChanges({ afterRevision: 0, position: undefined })));
    expect(await Promise.all(answers)).toEqual(['OK', 'OK', 'OK']);
    agent.close();
  });

  it('refuses a license, not the nodes of another one, and neither lease nor counter is used up', async () => {
    const { licenseKey } = await sold.sell();
    const fleet = [await newNode(licenseKey), await newNode(licenseKey), await newNode(licenseKey)];
    const other = await newNode();
    const { lease } = await fleet[0]!.acquire(sold.image);
    expect(lease).not.toBe('');
    // Three activations and one start have taken four of six.
    await fleet[1]!.acquire(sold.image);
    const before = (await auditLog(sold.client)).length;
    await fleet[2]!.renew(['lease_unknown']);
    await fleet[2]!.acquire(sold.image);
    await expect(fleet[1]!.acquire(sold.image)).rejects.toMatchObject({
      ...{ code: 'RATE_LIMITED', message: 'too many calls under this license' },
    });
    await expect(activateNode(server, licenseKey)).rejects.toMatchObject({ code: 'RATE_LIMITED' });
    expect(await auditLog(sold.client)).toHaveLength(before + 2);
    await other.acquire(sold.image);
  });

  it('makes an administrator wait with one token, and the command line does', async () => {
    const { token } = await sold.client.createToken({ name: 'loop', permissionSet: 'auditor' });
    const ask = () =>
      fetch(`${server.adminUrl}/v1/products`, { headers: { authorization: `Bearer ${token}` } });
    const answers = await Promise.all(Array.from({ length: 60 }, ask));
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    expect(Number(refused[0]!.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await adminClient(server, token).products()).toHaveLength(1);
  });
});

import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type IncomingMessage, createServer } from 'node:http';
import { type AddressInfo, type Socket, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import { encodeBase64 } from '#src/crypto/base64.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import type { GrpcTls } from '#src/keywrap/provider-config.ts';
import { type KeyProvider, createProviderUnwrapper, createProviderWrapper } from '#src/keywrap/provider.ts';
import { digestOf } from '#src/oci/digest.ts';
import {
  type ProviderService,
  type ProviderServiceOptions,
  SERVER_NAME,
  createTlsFiles,
  startProviderService,
} from '../fakes/key-provider-service.ts';

const SYMMETRIC_KEY = Buffer.alloc(32, 7);
const OPTIONS = formatPrivateOptions({
  symmetricKey: SYMMETRIC_KEY,
  nonce: Buffer.alloc(16, 8),
  plainDigest: digestOf('layer'),
});

let directory: string;
const services: ProviderService[] = [];
const at = (name: string) => join(directory, name);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lk-grpc-'));
  await createTlsFiles(directory);
  await writeFile(at('not.pem'), 'no certificate');
});
afterEach(() => {
  for (const service of services.splice(0)) service.close();
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function serve(options: ProviderServiceOptions = {}): Promise<ProviderService> {
  const service = await startProviderService(options);
  services.push(service);
  return service;
}

function provider(address: string, tls?: Partial<GrpcTls>, options: Partial<KeyProvider> = {}): KeyProvider {
  const settings = tls && { authorityFile: at('ca.pem'), client: undefined, serverName: SERVER_NAME, ...tls };
  return {
    name: 'acme',
    transport: { kind: 'grpc', address, tls: settings },
    environment: process.env,
    ...options,
  };
}

async function roundTrip(asked: KeyProvider): Promise<void> {
  const element = await createProviderWrapper(asked, 'x').wrap(OPTIONS);
  const opened = await createProviderUnwrapper(asked, undefined).unwrap(element);
  expect(Buffer.from(opened!)).toEqual(Buffer.from(OPTIONS));
}

async function failureOf(asked: KeyProvider): Promise<LatchkeyError> {
  const work = createProviderWrapper(asked, 'x').wrap(OPTIONS);
  return work.then(
    () => {
      throw new Error('expected a failure');
    },
    (error: unknown) => error as LatchkeyError,
  );
}

const mutual = () => ({ client: { certificateFile: at('client.pem'), keyFile: at('client.key') } });

describe('a service', () => {
  test('wraps and opens over TCP and over a socket', async () => {
    await roundTrip(provider((await serve()).address));
    await roundTrip(provider((await serve({ address: `unix://${at('s')}` })).address));
  });

  test('is told nothing but the element and its own parameter', async () => {
    const service = await serve();
    const element = await createProviderWrapper(provider(service.address), 'x').wrap(OPTIONS);
    await createProviderUnwrapper(provider(service.address), 'license=42').unwrap(element);
    expect(JSON.parse(service.requests[1]!)).toEqual({
      op: 'keyunwrap',
      keywrapparams: { ec: null, optsdata: null },
      keyunwrapparams: {
        dc: { Parameters: { acme: [Buffer.from('license=42').toString('base64')] } },
        annotation: Buffer.from(element).toString('base64'),
      },
    });
  });

  test('that refuses is quoted in one line', async () => {
    const { address } = await serve({ behaviour: 'refuse' });
    const failure = await failureOf(provider(address));
    expect(failure.code).toBe('KEY_PROVIDER_FAILED');
    expect(failure.message).toMatch(/^key provider acme at 127\.0\.0\.1:\d+ refused: "no.* such.*key"$/);
    expect(failure.message).not.toMatch(/\p{Cc}/u);
  });

  test.each([
    ['repeat-request', 'KEY_PROVIDER_FAILED'],
    ['repeat-request-as-away', 'NET_UNREACHABLE'],
  ] as const)(
    'that refuses with its request (%s) does not bring the layer key into the message',
    async (behaviour, code) => {
      const failure = await failureOf(provider((await serve({ behaviour })).address));
      expect(failure.code).toBe(code);
      expect(failure.message).toContain('(layer key)');
      for (const secret of [encodeBase64(OPTIONS), encodeBase64(SYMMETRIC_KEY)]) {
        expect(inspect(failure, { depth: null })).not.toContain(secret);
      }
    },
  );

  test('that hangs is left at the deadline', async () => {
    const { address } = await serve({ behaviour: 'hang' });
    expect((await failureOf(provider(address, undefined, { timeoutMs: 300 }))).code).toBe('NET_TIMEOUT');
  });

  test('is left when the work is interrupted', async () => {
    const service = await serve({ behaviour: 'hang' });
    const controller = new AbortController();
    const failure = failureOf(provider(service.address, undefined, { signal: controller.signal }));
    await expect.poll(() => service.requests.length).toBe(1);
    controller.abort();
    expect((await failure).code).toBe('INTERRUPTED');
  });

  test('that answers with 100 MiB, or with nonsense, has failed', async () => {
    const flood = await failureOf(provider((await serve({ behaviour: 'flood' })).address));
    expect(flood).toMatchObject({ code: 'KEY_PROVIDER_FAILED' });
    const garbage = await failureOf(provider((await serve({ behaviour: 'garbage' })).address));
    expect(garbage.message).toContain('the answer is not JSON');
  });

  test('that answers with more than it may is stopped before the answer is taken in', async () => {
    const failure = await failureOf(provider((await serve({ behaviour: 'too-long' })).address));
    expect(failure.code).toBe('KEY_PROVIDER_FAILED');
    expect(failure.message).toMatch(/refused: "Received message larger than max/);
  });

  test('that is away is unreachable', async () => {
    const service = await serve();
    service.close();
    const failure = await failureOf(provider(service.address));
    expect(failure.code).toBe('NET_UNREACHABLE');
    expect(failure.message).toContain(service.address);
  });
});

describe('a proxy of the environment', () => {
  const asked: string[] = [];
  const proxy = createServer().on('connect', ({ url = '' }: IncomingMessage, socket: Socket) => {
    asked.push(url);
    const { hostname, port } = new URL(`tcp://${url}`);
    socket.write('HTTP/1.1 200 Connected\r\n\r\n');
    pipeline(socket, connect(Number(port), hostname), socket, () => undefined);
  });

  beforeEach(async () => {
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    // Before all others; and none of the addresses that are spared.
    vi.stubEnv('grpc_proxy', `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
    for (const name of ['no_grpc_proxy', 'no_proxy']) vi.stubEnv(name, undefined);
    asked.length = 0;
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    proxy.close();
  });

  test('sees nothing of what is not encrypted', async () => {
    await roundTrip(provider((await serve()).address));
    expect(asked).toEqual([]);
  });

  test('passes on what is', async () => {
    const { address } = await serve({ tls: { directory, isMutual: false } });
    await roundTrip(provider(address, {}));
    expect(asked).toContain(address);
  });
});

describe('TLS', () => {
  test("to a server of the user's authority", async () => {
    const { address } = await serve({ tls: { directory, isMutual: false } });
    await roundTrip(provider(address, {}));
  });

  test('with a client certificate, where the server asks for one', async () => {
    const { address } = await serve({ tls: { directory, isMutual: true } });
    await roundTrip(provider(address, mutual()));
    expect((await failureOf(provider(address, {}, { timeoutMs: 5000 }))).code).toMatch(/^NET_/);
  });

  test.each([
    ['another authority', () => ({ authorityFile: at('foreign.pem') })],
    ['another name', () => ({ serverName: 'other.acme.example' })],
    ['no name but the address', () => ({ serverName: undefined })],
    ["only the system's authorities", () => ({ authorityFile: undefined })],
  ])('is refused by us for %s, and the service sees no request', async (_what, tls) => {
    const service = await serve({ tls: { directory, isMutual: false } });
    const failure = await failureOf(provider(service.address, tls()));
    expect(failure.code).toBe('NET_UNREACHABLE');
    expect(service.requests).toEqual([]);
  });

  test('never falls back to plain text', async () => {
    const service = await serve();
    expect((await failureOf(provider(service.address, {}))).code).toBe('NET_UNREACHABLE');
    expect(service.requests).toEqual([]);
  });

  test.each([
    [() => ({ authorityFile: at('missing.pem') }), /missing\.pem cannot be read/],
    [() => ({ client: { certificateFile: at('not.pem'), keyFile: at('client.key') } }), /no usable key/],
  ])('with files that are no good names what is wrong', async (tls, message) => {
    const failure = await failureOf(provider('127.0.0.1:1', tls()));
    expect(failure.code).toBe('CONFIG_INVALID');
    expect(failure.message).toMatch(message);
  });
});

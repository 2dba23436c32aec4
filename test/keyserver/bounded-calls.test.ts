import { Metadata, Server, ServerCredentials, credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  AcquireLeaseRequest,
  AcquireLeaseResponse,
  NodesClient,
  NodesService,
  WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary, unaryHandler } from '#src/wire/unary.ts';
import { boundedCalls } from '../../keyserver/grpc/bounded-calls.ts';
import { BUSY_RETRY_AFTER_MS, BUSY_RETRY_SPREAD_MS } from '../../keyserver/limits.ts';

/** Calls that are held until somebody answers them. */
const held: { answer(): void; refuse(error: Error): void }[] = [];
const logged: unknown[] = [];
const server = new Server();
let client: NodesClient;

beforeAll(async () => {
  const service = {
    acquireLease: unaryHandler(
      () =>
        new Promise<AcquireLeaseResponse>((resolve, reject) => {
          const answer = AcquireLeaseResponse.fromPartial({ lease: 'a lease' });
          held.push({
            answer: () => {
              resolve(answer);
            },
            refuse: reject,
          });
        }),
    ),
    watchRevocations: (stream: { write(message: WatchRevocationsResponse): void }) => {
      stream.write(WatchRevocationsResponse.fromPartial({ revision: 1 }));
    },
  };
  const bound = { maxCalls: 2, random: () => 0.5 };
  const log = (error: unknown) => {
    logged.push(error);
  };
  server.addService(NodesService, boundedCalls(service, NodesService, bound, log));
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bindPort) => {
      if (error === null) resolve(bindPort);
      else reject(error);
    });
  });
  client = new NodesClient(`127.0.0.1:${port}`, credentials.createInsecure());
});

afterAll(() => {
  client.close();
  server.forceShutdown();
});

async function acquire(): Promise<string> {
  try {
    const request = AcquireLeaseRequest.fromPartial({});
    const { lease } = await callUnary(client.acquireLease.bind(client), request, new Metadata(), {});
    return lease;
  } catch (error) {
    throw fromGrpcError(error, 'key server');
  }
}

/** Starts a call and waits until it is held. */
async function hold(): Promise<Promise<string>[]> {
  const before = held.length;
  const call = acquire();
  await expect.poll(() => held.length).toBe(before + 1);
  return [call];
}

describe('a service that is asked more than it can answer in time', () => {
  it('turns the next call away and says when to come back, without asking its handler', async () => {
    const [first] = await hold();
    const [second] = await hold();
    const refused = {
      code: 'RATE_LIMITED',
      retryAfterMs: BUSY_RETRY_AFTER_MS + BUSY_RETRY_SPREAD_MS / 2,
    };
    await expect(acquire()).rejects.toMatchObject(refused);
    expect(held).toHaveLength(2);
    expect(logged).toMatchObject([refused]);
    // A stream stays for days and is no call under way.
    const stream = client.watchRevocations({ afterRevision: 0, position: undefined });
    stream.on('error', () => undefined);
    await new Promise((resolve) => stream.once('data', resolve));
    stream.cancel();
    held[0]?.answer();
    expect(await first).toBe('a lease');
    const [third] = await hold();
    held[1]?.answer();
    held[2]?.answer();
    expect([await second, await third]).toEqual(['a lease', 'a lease']);
  });

  it('has a place again after calls that failed, and after calls whose caller has gone', async () => {
    const [failing] = await hold();
    held.at(-1)?.refuse(new LatchkeyError('DENIED_NODE_BANNED', 'banned'));
    await expect(failing).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
    const before = held.length;
    const gone = client.acquireLease(AcquireLeaseRequest.fromPartial({}), () => undefined);
    await expect.poll(() => held.length).toBe(before + 1);
    gone.cancel();
    held.at(-1)?.answer();
    const calls = [...(await hold()), ...(await hold())];
    held.at(-1)?.answer();
    held.at(-2)?.answer();
    expect(await Promise.all(calls)).toEqual(['a lease', 'a lease']);
  });
});

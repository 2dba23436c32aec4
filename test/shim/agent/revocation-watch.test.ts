import { join } from 'node:path';
import { type ServerWritableStream, credentials, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { WATCH_DEAD_AFTER_MS } from '#src/base/limits.ts';
import {
  type LicenseChange,
  type ListChangesResponse,
  NodesClient,
  type NodesServer,
  NodesService,
  type WatchRevocationsRequest,
  type WatchRevocationsResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { fromGrpcError, toGrpcStatus } from '#src/wire/status.ts';
import type { KeyServer } from '../../../shim/agent/key-server.ts';
import { RevocationWatch } from '../../../shim/agent/revocation-watch.ts';
import { type SocketServer, serveOnSocket } from '../../fakes/grpc-server.ts';
import { type ManualClock, manualClock } from '../../fakes/manual-clock.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

type Stream = ServerWritableStream<WatchRevocationsRequest, WatchRevocationsResponse>;

const directory = temporaryDirectory();
const WAIT = { timeout: 60_000 };
const CHANNEL = { 'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': 200 };

let server: SocketServer;
let client: NodesClient;
let clock: ManualClock;
let watch: RevocationWatch;
let streams: Stream[];
let changes: LicenseChange[];
let refusals: string[];
let caughtUp: number[];
let polls: number;
/** What it answers when it is asked for changes. */
let onPoll: (afterRevision: number) => Promise<ListChangesResponse>;
/** What the scripted key server does with a new stream. */
let onWatch: (stream: Stream) => void;

beforeEach(async () => {
  [streams, changes, refusals, caughtUp, clock] = [[], [], [], [], manualClock()];
  onWatch = () => undefined;
  polls = 0;
  onPoll = () => Promise.reject(new LatchkeyError('NET_UNREACHABLE', 'not asked in this test'));
  await startServer();
  client = new NodesClient(`unix://${socketPath()}`, credentials.createInsecure(), CHANNEL);
  watch = newWatch(0.5);
});
afterEach(() => {
  watch.stop();
  client.close();
  server.close();
  vi.useRealTimers();
});

function socketPath(): string {
  return join(directory(), 'keyserver.sock');
}

async function startServer(): Promise<void> {
  const service: Pick<NodesServer, 'watchRevocations'> = {
    watchRevocations: (stream: Stream) => {
      streams.push(stream);
      onWatch(stream);
    },
  };
  server = await serveOnSocket(socketPath(), [[NodesService, service]]);
}

function start(): void {
  const keyServer = {
    watchRevocations: (afterRevision: number) =>
      Promise.resolve(client.watchRevocations({ afterRevision, position: undefined })),
    listChanges: (afterRevision: number) => {
      polls += 1;
      return onPoll(afterRevision);
    },
    explain: (error: unknown) => fromGrpcError(error, 'the key server'),
  } as KeyServer;
  watch.start(keyServer);
}

function heartbeat(revision: number): WatchRevocationsResponse {
  return { revision, serverTimeMs: 1, event: { $case: 'heartbeat', value: {} } };
}

function changeOf(revision: number): WatchRevocationsResponse {
  const value = { licenseId: 'lic-1', epoch: revision, state: 'ACTIVE', denial: undefined };
  return { revision, serverTimeMs: 1, event: { $case: 'licenseChange', value } };
}

function revisionsAsked(): number[] {
  return streams.map(({ request }) => request.afterRevision);
}

describe('the watch', () => {
  test('is connected from the first message on, and says when the last one came', async () => {
    start();
    expect(watch.state).toEqual({ connected: false, by: 'nothing', lastContactMs: 0, revision: 0 });
    await vi.waitFor(() => expect(streams).toHaveLength(1), WAIT);
    streams[0]!.write(heartbeat(7));
    await vi.waitFor(() => expect(watch.state.connected).toBe(true), WAIT);
    expect(watch.state).toEqual({
      connected: true,
      by: 'stream',
      lastContactMs: clock.wallMs,
      revision: 7,
    });
    expect(changes).toEqual([]);
  });

  test('passes every change on, in order', async () => {
    start();
    await vi.waitFor(() => expect(streams).toHaveLength(1), WAIT);
    for (const revision of [1, 2, 3]) streams[0]!.write(changeOf(revision));
    streams[0]!.write(heartbeat(4));
    await vi.waitFor(() => expect(watch.state.revision).toBe(4), WAIT);
    expect(changes.map(({ epoch }) => epoch)).toEqual([1, 2, 3]);
    // A revision without a change of a license of this node is nothing to acknowledge.
    expect(caughtUp).toEqual([1, 2, 3]);
  });

  test.each([
    ['ended by the server', (stream: Stream) => stream.end()],
    [
      'failed by the server',
      (stream: Stream) => stream.emit('error', { code: status.UNAVAILABLE, details: 'restarting' }),
    ],
  ])('%s comes back and asks for what it has missed', async (_case, cut) => {
    start();
    await vi.waitFor(() => expect(streams).toHaveLength(1), WAIT);
    streams[0]!.write(changeOf(41));
    await vi.waitFor(() => expect(changes).toHaveLength(1), WAIT);
    // What happened while the line was down is replayed first.
    onWatch = (stream) => stream.write(changeOf(42));
    cut(streams[0]!);
    await vi.waitFor(() => expect(watch.state.connected).toBe(false), WAIT);
    await vi.waitFor(() => expect(changes.map(({ epoch }) => epoch)).toEqual([41, 42]), WAIT);
    expect(revisionsAsked()).toEqual([0, 41]);
    expect(watch.state).toMatchObject({ connected: true, revision: 42 });
  });

  test('comes back after the key server was away', async () => {
    start();
    await vi.waitFor(() => expect(streams).toHaveLength(1), WAIT);
    streams[0]!.write(heartbeat(5));
    await vi.waitFor(() => expect(watch.state.connected).toBe(true), WAIT);
    server.close();
    await vi.waitFor(() => expect(watch.state.connected).toBe(false), WAIT);
    await startServer();
    await vi.waitFor(() => expect(streams).toHaveLength(2), WAIT);
    expect(revisionsAsked()).toEqual([0, 5]);
  });

  test('waits for a key server that is not there yet', async () => {
    server.close();
    start();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await startServer();
    onWatch = (stream) => stream.write(heartbeat(1));
    await vi.waitFor(() => expect(watch.state.connected).toBe(true), WAIT);
  });

  test('that hears nothing for too long takes the line for dead and dials again', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    start();
    await untilTrue(() => streams.length === 1);
    streams[0]!.write(heartbeat(3));
    await untilTrue(() => watch.state.connected);
    vi.advanceTimersByTime(WATCH_DEAD_AFTER_MS - 1000);
    streams[0]!.write(heartbeat(4));
    await untilTrue(() => watch.state.revision === 4);
    vi.advanceTimersByTime(WATCH_DEAD_AFTER_MS - 1000);
    await untilTrue(() => true);
    expect(watch.state.connected).toBe(true);
    vi.advanceTimersByTime(1000);
    await untilTrue(() => !watch.state.connected);
    vi.advanceTimersByTime(500);
    await untilTrue(() => streams.length === 2);
    expect(revisionsAsked()).toEqual([0, 4]);
  });

  test('comes back sooner or later than others whose line was cut at the same moment', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const comeBackMs = async (random: number): Promise<number> => {
      watch = newWatch(random);
      streams = [];
      start();
      await untilTrue(() => streams.length === 1);
      streams[0]!.write(heartbeat(3));
      await untilTrue(() => watch.state.connected);
      streams[0]!.end();
      await untilTrue(() => !watch.state.connected);
      let waitedMs = 0;
      for (; streams.length === 1; waitedMs += 50) {
        vi.advanceTimersByTime(50);
        for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      }
      watch.stop();
      return waitedMs;
    };
    const [first, last] = [await comeBackMs(0), await comeBackMs(0.99)];
    expect(last).toBeGreaterThan(2 * first);
  });

  test('that is stopped stays stopped; a second start replaces the first', async () => {
    start();
    await vi.waitFor(() => expect(streams).toHaveLength(1), WAIT);
    start();
    await vi.waitFor(() => expect(streams).toHaveLength(2), WAIT);
    await vi.waitFor(() => expect(streams[0]!.cancelled).toBe(true), WAIT);
    watch.stop();
    await vi.waitFor(() => expect(streams[1]!.cancelled).toBe(true), WAIT);
    await new Promise((resolve) => setTimeout(resolve, 800));
    expect(streams).toHaveLength(2);
  });

  test('does not believe a server that was restored to an older state, and keeps what it knows', async () => {
    start();
    await vi.waitFor(() => expect(streams).toHaveLength(1), WAIT);
    streams[0]!.write(changeOf(9));
    streams[0]!.write(changeOf(2));
    await vi.waitFor(() => expect(streams).toHaveLength(2), WAIT);
    expect(revisionsAsked()).toEqual([0, 9]);
    expect(changes.map(({ epoch }) => epoch)).toEqual([9]);
  });

  test('asks for changes where streams do not get through, until one does', async () => {
    onWatch = (stream) => stream.emit('error', { code: status.UNAVAILABLE, details: 'no streams here' });
    const value = { licenseId: 'lic-1', epoch: 5, state: 'ACTIVE', denial: undefined };
    onPoll = (after) => Promise.resolve({ changes: after < 5 ? [value] : [], revision: 5, serverTimeMs: 1 });
    start();
    await vi.waitFor(
      () => expect(watch.state).toMatchObject({ connected: true, by: 'poll', revision: 5 }),
      WAIT,
    );
    await vi.waitFor(() => expect(polls).toBeGreaterThan(2), WAIT);
    expect(changes.map(({ epoch }) => epoch)).toEqual([5]);
    onPoll = () => Promise.reject(new LatchkeyError('NET_UNREACHABLE', 'now that does not either'));
    await vi.waitFor(() => expect(watch.state).toMatchObject({ connected: false, by: 'nothing' }), WAIT);
    onWatch = (stream) => stream.write(heartbeat(6));
    await vi.waitFor(() => expect(watch.state).toMatchObject({ connected: true, by: 'stream' }), WAIT);
  });

  test('tells when the key server ends it because this node is banned', async () => {
    onWatch = (stream) => {
      stream.emit('error', toGrpcStatus(new LatchkeyError('DENIED_NODE_BANNED', 'this node is banned')));
    };
    start();
    await vi.waitFor(() => expect(refusals[0]).toBe('DENIED_NODE_BANNED'), WAIT);
  });
});

/** @param random what it draws, each time */
function newWatch(random: number): RevocationWatch {
  const events = {
    onChange: (change: LicenseChange) => changes.push(change),
    onCaughtUp: (revision: number) => caughtUp.push(revision),
    onRefused: (reason: LatchkeyError) => refusals.push(reason.code),
  };
  return new RevocationWatch(clock, events, () => random);
}

/** Lets the event loop turn while the timers are the test's. */
async function untilTrue(condition: () => boolean): Promise<void> {
  do await new Promise((resolve) => setImmediate(resolve));
  while (!condition());
}

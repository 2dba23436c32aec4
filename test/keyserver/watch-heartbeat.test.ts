/** A stream on which nothing happens still says that it is there: without it, an agent takes the key server for gone. */
import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { WATCH_DEAD_AFTER_MS } from '#src/base/limits.ts';
import type { WatchRevocationsResponse } from '#src/wire/generated/latchkey/node.ts';
import type { ChangeReader } from '../../keyserver/domain/change-reader.ts';
import { ChangeFeed } from '../../keyserver/domain/change-feed.ts';
import type { KeyServer } from '../../keyserver/domain/key-server.ts';
import { OpenStreams } from '../../keyserver/grpc/revocation-stream.ts';
import { WATCH_HEARTBEAT_MS } from '../../keyserver/limits.ts';

const REVISION = 7;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout', 'Date'] });
});

afterEach(() => {
  vi.useRealTimers();
});

/** The stream of a node for which there is no news. */
function openStream() {
  const server = { changes: new ChangeFeed(), clock: { nowMs: () => Date.now() } } as unknown as KeyServer;
  const nothingNew = { read: () => Promise.resolve({ revision: REVISION, changes: [], nodeDenial: null }) };
  const streams = new OpenStreams(server, nothingNew as unknown as ChangeReader, () => undefined);
  const written: WatchRevocationsResponse[] = [];
  const call = Object.assign(new EventEmitter(), {
    cancelled: false,
    request: { afterRevision: REVISION, position: undefined },
    write: (message: WatchRevocationsResponse) => written.push(message),
  });
  streams.open(call as unknown as Parameters<OpenStreams['open']>[0], {
    ...{ nodeId: 'node_1', keyThumbprint: 't', expiresAtMs: Date.now() + 100 * WATCH_HEARTBEAT_MS },
  });
  return { call, written, streams };
}

const kinds = (written: readonly WatchRevocationsResponse[]) => written.map(({ event }) => event?.$case);

it('comes at once, and then each time that it is due', async () => {
  const { written } = openStream();
  await vi.advanceTimersByTimeAsync(0);
  expect(kinds(written)).toEqual(['heartbeat']);
  const openedAtMs = Date.now();
  await vi.advanceTimersByTimeAsync(WATCH_HEARTBEAT_MS);
  await vi.advanceTimersByTimeAsync(WATCH_HEARTBEAT_MS);
  expect(kinds(written)).toEqual(['heartbeat', 'heartbeat', 'heartbeat']);
  expect(written.map(({ serverTimeMs }) => serverTimeMs - openedAtMs)).toEqual([
    ...[0, WATCH_HEARTBEAT_MS, 2 * WATCH_HEARTBEAT_MS],
  ]);
  expect(written.map(({ revision }) => revision)).toEqual([REVISION, REVISION, REVISION]);
});

it('comes no more to a node that has gone', async () => {
  const { call, written, streams } = openStream();
  await vi.advanceTimersByTimeAsync(WATCH_HEARTBEAT_MS);
  call.emit('cancelled');
  await vi.advanceTimersByTimeAsync(2 * WATCH_HEARTBEAT_MS);
  expect(kinds(written)).toEqual(['heartbeat', 'heartbeat']);
  expect(streams.count).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});

it('may be lost or late once before an agent takes the key server for gone', () => {
  expect(WATCH_DEAD_AFTER_MS).toBeGreaterThan(2 * WATCH_HEARTBEAT_MS);
});

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { BlobKeeper } from '../../../shim/agent/blob-keeper.ts';
import { fakeLayer } from '../../fakes/scripted-gate.ts';

const HOUR_MS = 3_600_000;
const AWAY = new LatchkeyError('NET_UNREACHABLE', 'containerd is away');
const UNKNOWN = new LatchkeyError('STATE_NOT_FOUND', 'no such snapshot', {
  cause: Object.assign(new Error('not found'), { code: 5 }),
});
const { chainId, identity } = fakeLayer('app', 'encrypted');

let failure: LatchkeyError | undefined;
let attempts: number;
let failed: string[];
let keeper: BlobKeeper;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  [failure, attempts, failed] = [undefined, 0, []];
  keeper = new BlobKeeper({
    tie: () => {
      attempts += 1;
      return failure === undefined ? Promise.resolve() : Promise.reject(failure);
    },
    onFailed: (_layer, { code }) => failed.push(code),
  });
  keeper.keep('k8s.io', chainId, identity.layer);
});
afterEach(() => {
  vi.useRealTimers();
});

test('a blob is tied once', async () => {
  await vi.advanceTimersByTimeAsync(HOUR_MS);
  expect({ attempts, failed }).toEqual({ attempts: 1, failed: [] });
});

test('a blob is tied when containerd is back, however long it was away', async () => {
  failure = AWAY;
  await vi.advanceTimersByTimeAsync(24 * HOUR_MS);
  failure = undefined;
  const before = attempts;
  await vi.advanceTimersByTimeAsync(60_000);
  expect({ more: attempts - before, failed }).toEqual({ more: 1, failed: [] });
  expect(before).toBeLessThan(24 * 150);
});

test('a snapshot that containerd never learns of is given up, and said', async () => {
  failure = UNKNOWN;
  await vi.advanceTimersByTimeAsync(HOUR_MS);
  expect({ attempts, failed }).toEqual({ attempts: 12, failed: ['STATE_NOT_FOUND'] });
});

test('nothing is tried after the end of the agent', async () => {
  failure = AWAY;
  await vi.advanceTimersByTimeAsync(1000);
  const before = attempts;
  keeper.stop();
  await vi.advanceTimersByTimeAsync(HOUR_MS);
  expect(attempts).toBe(before);
});

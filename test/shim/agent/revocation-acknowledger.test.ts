import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { RevocationAcknowledger } from '../../../shim/agent/revocation-acknowledger.ts';

let sent: number[];
let refused: string[];
let failure: LatchkeyError | undefined;
let acknowledger: RevocationAcknowledger;

const keyServer = {
  acknowledgeRevocations: (revision: number) => {
    sent.push(revision);
    return failure === undefined ? Promise.resolve() : Promise.reject(failure);
  },
};

beforeEach(() => {
  vi.useFakeTimers();
  [sent, refused, failure] = [[], [], undefined];
  acknowledger = new RevocationAcknowledger(({ code }) => refused.push(code));
});

afterEach(() => {
  acknowledger.stop();
  vi.useRealTimers();
});

test('the newest revision is told, once, and it stands for those that came while one was under way', async () => {
  acknowledger.start(keyServer);
  for (const revision of [3, 4, 5, 4]) acknowledger.applied(revision);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent).toEqual([3, 5]);
});

test('a key server that is away is told when it is back, and then the newest', async () => {
  failure = new LatchkeyError('NET_UNREACHABLE', 'away');
  acknowledger.start(keyServer);
  acknowledger.applied(3);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(sent.length).toBeGreaterThan(1);
  [failure, sent] = [undefined, []];
  acknowledger.applied(7);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent).toEqual([7]);
  expect(refused).toEqual([]);
});

test.each(['DENIED_SEALED', 'RATE_LIMITED'] as const)('%s is no answer: it is told again', async (code) => {
  failure = new LatchkeyError(code, 'not now');
  acknowledger.start(keyServer);
  acknowledger.applied(3);
  await vi.advanceTimersByTimeAsync(0);
  failure = undefined;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent).toEqual([3, 3]);
  expect(refused).toEqual([]);
});

test('what was refused is not told again, but the next is', async () => {
  failure = new LatchkeyError('BUG_UNEXPECTED', 'an older key server');
  acknowledger.start(keyServer);
  acknowledger.applied(3);
  await vi.advanceTimersByTimeAsync(60_000);
  acknowledger.applied(4);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent).toEqual([3, 4]);
  expect(refused).toEqual(['BUG_UNEXPECTED', 'BUG_UNEXPECTED']);
});

test('nothing is told after it was stopped', async () => {
  failure = new LatchkeyError('NET_UNREACHABLE', 'away');
  acknowledger.start(keyServer);
  acknowledger.applied(3);
  await vi.advanceTimersByTimeAsync(0);
  acknowledger.stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent).toEqual([3]);
});

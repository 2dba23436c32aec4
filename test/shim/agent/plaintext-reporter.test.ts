import { beforeEach, expect, test, vi } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import type { KeyServer } from '../../../shim/agent/key-server.ts';
import { type PlaintextReport, PlaintextReporter } from '../../../shim/agent/plaintext-reporter.ts';
import { manualClock } from '../../fakes/manual-clock.ts';

const report: PlaintextReport = {
  licenseId: 'lic-1',
  epoch: 2,
  denialCode: 'DENIED_LICENSE_REVOKED',
  startsRefusedAtMs: 1,
  runningContainers: 1,
  plaintextLayers: 2,
  plaintextGoneAtMs: 0,
};
const gone = { ...report, runningContainers: 0, plaintextLayers: 0, plaintextGoneAtMs: 5 };

const WAIT = { timeout: 60_000 };

let received: { plaintextGoneAtMs: number }[];
let failure: LatchkeyError | undefined;
let refused: string[];
let reporter: PlaintextReporter;

beforeEach(() => {
  received = [];
  refused = [];
  failure = undefined;
  reporter = new PlaintextReporter(manualClock(), {
    onReported: () => undefined,
    onRefused: (_report, { code }) => refused.push(code),
  });
});

const keyServer = {
  reportPlaintext: (request) => {
    received.push(request);
    return failure === undefined ? Promise.resolve() : Promise.reject(failure);
  },
} as Partial<KeyServer> as KeyServer;

test('the same is told once, and what changes again', async () => {
  reporter.start(keyServer);
  for (let round = 0; round < 3; round += 1) reporter.note([report]);
  await vi.waitUntil(() => received.length === 1, WAIT);
  reporter.note([report]);
  reporter.note([gone]);
  await vi.waitUntil(() => received.length === 2, WAIT);
  expect(received.map(({ plaintextGoneAtMs }) => plaintextGoneAtMs)).toEqual([0, 5]);
});

test.each(['NET_UNREACHABLE', 'NET_TLS'] as const)(
  'after %s it is told later, and then the newest only',
  async (code) => {
    vi.useFakeTimers();
    try {
      failure = new LatchkeyError(code, 'away');
      reporter.start(keyServer);
      reporter.note([report]);
      await vi.advanceTimersByTimeAsync(0);
      reporter.note([gone]);
      await vi.advanceTimersByTimeAsync(0);
      failure = undefined;
      received = [];
      await vi.advanceTimersByTimeAsync(60_000);
      expect(received.map(({ plaintextGoneAtMs }) => plaintextGoneAtMs)).toEqual([5]);
    } finally {
      vi.useRealTimers();
    }
  },
);

test('a key server that says no is not told the same again', async () => {
  failure = new LatchkeyError('STATE_NOT_FOUND', 'not your license');
  reporter.start(keyServer);
  reporter.note([report]);
  await vi.waitUntil(() => refused.length === 1, WAIT);
  reporter.note([report]);
  await Promise.resolve();
  expect(received).toHaveLength(1);
});

test('a license that is in force and refused once more is told once more', async () => {
  reporter.start(keyServer);
  reporter.note([report]);
  await vi.waitUntil(() => received.length === 1, WAIT);
  reporter.note([]);
  reporter.note([report]);
  await vi.waitUntil(() => received.length === 2, WAIT);
});

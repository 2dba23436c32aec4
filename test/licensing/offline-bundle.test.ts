import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ImportingNode, importRefusal, parseOfflineBundleFile } from '#src/licensing/offline-bundle.ts';
import { parseOfflineRequestFile } from '#src/licensing/offline-request.ts';
import { clockRollbackMs, nodeTimeMs, passMark, raiseFloor, raiseMark } from '#src/licensing/node-time.ts';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';

const CERTIFICATE = { der: 'MA==', expiresAtMs: 1, renewAtMs: 1 };
const bundle = {
  nodeKeyThumbprint: 'key',
  nodeId: 'node',
  sequence: 5,
  expiresAtMs: 1000,
  certificate: null,
};
const node: ImportingNode = { nodeKeyThumbprint: 'key', nodeId: 'node', lastSequence: 4, nowMs: 999 };

test.each(['no JSON', '{}', '[1]', '{"a":1,"a":2}'])(
  'a file of %s is refused with what to give in its place',
  (text) => {
    for (const [parse, hint] of [
      [parseOfflineBundleFile, 'latchkey license check-out'],
      [parseOfflineRequestFile, 'latchkey node request'],
    ] as const) {
      const refusal = expect.objectContaining({
        code: 'INPUT_MALFORMED',
        message: expect.stringMatching(/^site\.file is not an offline \w+$/) as string,
        hint: expect.stringContaining(hint) as string,
      }) as Error;
      expect(() => parse(Buffer.from(text), 'site.file')).toThrow(refusal);
    }
  },
);

describe('a bundle', () => {
  test.each([
    ['of this node, with the next number, in time', {}, {}, null],
    ['of the last moment', {}, { nowMs: 999 }, null],
    ['that has ended', {}, { nowMs: 1000 }, 'DENIED_LEASE_EXPIRED'],
    ['with the number that was imported', {}, { lastSequence: 5 }, 'DENIED_REPLAY'],
    ['with an older number', {}, { lastSequence: 6 }, 'DENIED_REPLAY'],
    ['of another key', { nodeKeyThumbprint: 'other' }, {}, 'DENIED_LEASE_INVALID'],
    ['of another node', { nodeId: 'other' }, {}, 'DENIED_LEASE_INVALID'],
    ['of a node that is to be enrolled', { certificate: CERTIFICATE }, { nodeId: undefined }, null],
    ['without a certificate, for a node that is nobody', {}, { nodeId: undefined }, 'DENIED_LEASE_INVALID'],
  ])('%s is judged', (_case, change, changedNode, code) => {
    expect(importRefusal({ ...bundle, ...change }, { ...node, ...changedNode })?.code ?? null).toBe(code);
  });

  test('is never taken twice, nor after its end, nor by another key (property)', () => {
    const keys = fc.constantFrom('key', 'other');
    fc.assert(
      fc.property(
        keys,
        fc.nat(9),
        fc.nat(9),
        fc.nat(2000),
        (nodeKeyThumbprint, sequence, lastSequence, nowMs) => {
          const taken = importRefusal(
            { ...bundle, nodeKeyThumbprint, sequence: sequence + 1 },
            { ...node, lastSequence, nowMs },
          );
          const mayBe = nodeKeyThumbprint === 'key' && sequence + 1 > lastSequence && nowMs < 1000;
          expect(taken === null).toBe(mayBe);
        },
      ),
    );
  });
});

describe('the time without a line', () => {
  const mark = { serverTimeMs: 1_000_000_000, bootId: 'b1', bootTimeMs: 0 };

  test('is kept over reboots, so that turning the clock back gains nothing that was seen', () => {
    const step = fc.record({
      uptimeMs: fc.nat(1e8),
      offMs: fc.nat(1e8),
      turnedBackMs: fc.nat(1e9),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        let [known, trueMs, boot] = [mark as ReturnType<typeof passMark>, mark.serverTimeMs, 1];
        for (const { uptimeMs, offMs, turnedBackMs } of steps) {
          trueMs += uptimeMs;
          const honest = { wallMs: trueMs, bootId: `b${boot}`, bootTimeMs: known.bootTimeMs + uptimeMs };
          expect(clockRollbackMs(known, honest)).toBe(0);
          known = passMark(known, honest);
          trueMs += offMs;
          boot += 1;
          const lying = { wallMs: trueMs - offMs - turnedBackMs, bootId: `b${boot}`, bootTimeMs: 0 };
          expect(clockRollbackMs(known, lying) > 0).toBe(turnedBackMs > MAX_CLOCK_SKEW_MS);
          expect(nodeTimeMs(known, lying)).toBeGreaterThanOrEqual(trueMs - offMs);
          known = { ...known, bootId: lying.bootId, bootTimeMs: 0 };
        }
      }),
    );
  });

  test('was wrong: the word of the key server mends it, a carried one only when it is newer', () => {
    const wrong = passMark(mark, { wallMs: 9e12, bootId: 'b1', bootTimeMs: 10 });
    const right = { wallMs: 1_000_000_020, bootId: 'b1', bootTimeMs: 20 };
    expect(clockRollbackMs(wrong, right)).toBeGreaterThan(0);
    expect(clockRollbackMs(raiseMark(wrong, 1_000_000_015, right), right)).toBe(0);
    expect(raiseFloor(wrong, 999_999_999, right)).toBe(wrong);
    expect(clockRollbackMs(raiseFloor(wrong, 1_000_000_021, right), right)).toBe(0);
  });
});

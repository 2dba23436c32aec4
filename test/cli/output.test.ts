import { describe, expect, test } from 'vitest';
import type { Clock } from '#src/base/clock.ts';
import { escapeLine, formatBytes, formatFields, formatTable } from '../../cli/output.ts';
import { createProgress } from '../../cli/progress.ts';

function recorder(isTTY: boolean) {
  const written: string[] = [];
  return { written, sink: { isTTY, columns: 80, write: (text: string) => written.push(text) } };
}

function clockAt(): Clock & { nowValueMs: number } {
  return {
    nowValueMs: 0,
    nowMs() {
      return this.nowValueMs;
    },
    monotonicMs() {
      return this.nowValueMs;
    },
  };
}

describe('text output', () => {
  test('lines tables and fields up', () => {
    expect(formatTable(['A', 'LONG'], [['longer', 'x']])).toBe('A       LONG\nlonger  x\n');
    expect(
      formatFields([
        ['name', 'x'],
        ['none', undefined],
        ['longer name', 'y'],
      ]),
    ).toBe('name         x\nlonger name  y\n');
  });

  test('shows control characters and newlines instead of obeying them', () => {
    expect(escapeLine('a\u001b[2Jb\nc\u009bd\u2028ü株')).toBe(String.raw`a\u001b[2Jb\u000ac\u009bd\u2028ü株`);
    // These turn the direction of what follows, so that a name reads as another one.
    expect(escapeLine('a\u202eb\u2066c')).toBe(String.raw`a\u202eb\u2066c`);
    expect(formatTable(['A', 'B'], [['\u001b', 'x']])).toBe(String.raw`A       B
\u001b  x
`);
    expect(formatFields([['a', 'x\nb  y']])).toBe(String.raw`a  x\u000ab  y
`);
  });

  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [5 * 1024 ** 3, '5.0 GiB'],
  ])('writes %i bytes as %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe('progress', () => {
  test('is a line every few seconds where there is no terminal', () => {
    const { written, sink } = recorder(false);
    const clock = clockAt();
    const progress = createProgress({ stderr: sink, clock }, { json: false, quiet: false });
    progress.start('pushing', 200);
    progress.advance(50);
    expect(written).toEqual([]);
    clock.nowValueMs = 6000;
    progress.advance(50);
    expect(written).toEqual(['pushing: 50% of 200 B, 17 B/s\n']);
    progress.finish();
    expect(written[1]).toBe('pushing: done, 100 B in 6.0 s\n');
  });

  test('says once that a step has ended, and nothing of one that never began', () => {
    const { written, sink } = recorder(false);
    const progress = createProgress({ stderr: sink, clock: clockAt() }, { json: false, quiet: false });
    progress.finish();
    progress.start('pushing', 100);
    progress.advance(100);
    progress.finish();
    progress.finish();
    expect(written).toEqual(['pushing: done, 100 B in 0.0 s\n']);
  });

  test('is a bar on a terminal, taken away before anything else is said', () => {
    const { written, sink } = recorder(true);
    const clock = clockAt();
    const progress = createProgress({ stderr: sink, clock }, { json: false, quiet: false });
    progress.start('pushing', 100);
    clock.nowValueMs = 200;
    progress.advance(50);
    progress.clear();
    expect(written[1]).toContain('50% of 100 B');
    expect(written.at(-1)).toBe('\r\u001b[2K');
  });

  test.each([
    { json: true, quiet: false },
    { json: false, quiet: true },
  ])('is silent with %o', (options) => {
    const { written, sink } = recorder(true);
    const progress = createProgress({ stderr: sink, clock: clockAt() }, options);
    progress.start('pushing', 100);
    progress.advance(100);
    progress.finish();
    progress.clear();
    expect(written).toEqual([]);
  });
});

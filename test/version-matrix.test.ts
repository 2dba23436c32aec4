import { describe, expect, test } from 'vitest';
import { versionMatrix } from './version-matrix.ts';

describe('the table of containerd versions', () => {
  test('has a row for each test and a column for each version', () => {
    expect(
      versionMatrix([
        { fullName: 'the gate on containerd 2 > CRI pulls', state: 'failed' },
        { fullName: 'the gate on containerd 1.6 > CRI pulls', state: 'passed' },
        {
          fullName: 'the gate on containerd 1.7: needs containerd 1.7: sh x.sh > CRI pulls',
          state: 'skipped',
        },
        { fullName: 'only here on containerd 2 > transfer', state: 'passed' },
        { fullName: 'a parser > refuses', state: 'passed' },
      ]),
    ).toEqual([
      '1.6     1.7     2       on containerd',
      'ok      skipped FAILED  the gate > CRI pulls',
      '-       -       ok      only here > transfer',
    ]);
  });

  test('is empty when nothing ran on one', () => {
    expect(versionMatrix([{ fullName: 'a parser > refuses', state: 'passed' }])).toEqual([]);
  });
});

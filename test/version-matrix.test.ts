import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
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

  test('has every test that runs on each version', () => {
    const files = readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' });
    const own = files
      .filter((name) => name.endsWith('.test.ts') && join(import.meta.dirname, name) !== import.meta.filename)
      .filter((name) =>
        readFileSync(join(import.meta.dirname, name), 'utf8').includes('.each(CONTAINERD_VERSIONS)'),
      );
    // These name their groups themselves; describeOnContainerds names them as the table wants.
    expect(own).toEqual([]);
  });

  test('is empty when nothing ran on one', () => {
    expect(versionMatrix([{ fullName: 'a parser > refuses', state: 'passed' }])).toEqual([]);
  });
});

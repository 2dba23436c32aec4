/** What the operator's guide says that the doctor can find is what it can find. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FAULT_IDS } from '../../shim/install/finding.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const INSTALL = join(ROOT, 'shim', 'install');

test('the ids in the operator’s guide are those of the code', () => {
  const guide = readFileSync(join(ROOT, 'docs', 'operator-guide.md'), 'utf8');
  const [, table = ''] = /^ *\| ids \| about \|\n *\|[-|]+\|\n((?: *\|.*\n)+)/m.exec(guide) ?? [];
  const documented = table.split('\n').flatMap((row) => (row.split('|')[1] ?? '').trim().split(', '));
  expect(documented.filter((id) => id !== '').sort()).toEqual([...FAULT_IDS].sort());
});

test('every id is found by some check', () => {
  const checks = readdirSync(INSTALL)
    .filter((name) => name !== 'finding.ts')
    .map((name) => readFileSync(join(INSTALL, name), 'utf8'))
    .join('\n');
  expect(FAULT_IDS.filter((id) => !checks.includes(`'${id}'`))).toEqual([]);
});

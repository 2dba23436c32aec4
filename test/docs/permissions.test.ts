/** The table of permissions in the admin guide is that of the code. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PERMISSIONS, PERMISSION_SETS, PERMISSION_SET_NAMES } from '#src/wire/admin/permission.ts';

const GUIDE = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'admin-guide.md'), 'utf8');

const cells = (line: string) =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim());

test('the table of permissions has a column for each set, and a row for each permission that is true', () => {
  const lines = GUIDE.split('\n');
  const start = lines.findIndex((line) => line.startsWith('| permission |'));
  expect(cells(lines[start] ?? '').slice(1)).toEqual(PERMISSION_SET_NAMES.map((name) => `\`${name}\``));
  const end = lines.findIndex((line, index) => index > start && !line.startsWith('|'));
  const rows = lines.slice(start + 2, end).map(cells);
  const expected = PERMISSIONS.map((permission) => [
    `\`${permission}\``,
    ...PERMISSION_SET_NAMES.map((name) => (PERMISSION_SETS[name].includes(permission) ? 'yes' : '')),
  ]);
  expect(rows).toEqual(expected);
});

test('every permission set has its sentence', () => {
  for (const name of PERMISSION_SET_NAMES) expect(GUIDE).toMatch(new RegExp(`^\\| \`${name}\` \\| \\w`, 'm'));
});
